/**
 * What the round controller has at hand while a round is open: its plan, its sum, its work in progress.
 * Holds: nothing in here decides anything that a restart could not find out again from journal, spool and cluster.
 */
import type { RoundRecord } from "../../round/record.ts";
import type { ClosedCohort, SumView } from "../../round/world.ts";
import type { Context } from "../context.ts";
import { Effects } from "../effects.ts";
import { CohortMachines } from "./cohort-machines.ts";
import type { RoundDesk } from "./desk.ts";
import { SecureSum, type SecureSumView } from "./secure-sum.ts";
import { type RoundPlan, readPlan, readRoundKey } from "./stored-plan.ts";
import { RoundSum } from "./sum.ts";

export class Workplace {
  readonly effects: Effects;
  readonly desk: RoundDesk;
  readonly #context: Context;
  readonly #wake: (uid: string) => void;
  readonly #plans = new Map<string, RoundPlan>();
  readonly #sums = new Map<string, Promise<RoundSum>>();
  readonly #secureSums = new Map<string, Promise<SecureSum>>();
  readonly #machines = new Map<string, Promise<CohortMachines>>();
  readonly #cleaned = new Set<string>();
  readonly #views = new Map<string, () => SumView>();

  /** @param wake  looks at the round with this uid again, soon */
  constructor(context: Context, desk: RoundDesk, wake: (uid: string) => void) {
    this.#context = context;
    this.desk = desk;
    this.#wake = wake;
    this.effects = new Effects(wake, context.now);
  }

  /** @throws Error when the round was never planned */
  async plan(uid: string): Promise<RoundPlan> {
    const known = this.#plans.get(uid) ?? (await readPlan(this.#context.journal, uid));
    if (!known) throw new Error("the journal holds no plan of this round");
    this.#plans.set(uid, known);
    return known;
  }

  sumView(uid: string): SumView {
    return this.#views.get(uid)?.() ?? { added: [], refused: [] };
  }

  /** The sum of a trusted round; its worker starts with the first contribution. */
  sum(uid: string): Promise<RoundSum> {
    return this.#begun(this.#sums, uid, () => this.#startSum(uid));
  }

  /** The sum of a secure round, likewise. */
  secureSum(uid: string): Promise<SecureSum> {
    return this.#begun(this.#secureSums, uid, () => this.#startSecureSum(uid));
  }

  /** The coordinator's side of a secure round's cohorts. */
  machines(uid: string): Promise<CohortMachines> {
    return this.#begun(this.#machines, uid, async () => {
      const plan = await this.plan(uid);
      return CohortMachines.load(this.#context.journal, plan, () => this.#record(uid));
    });
  }

  /** Whether this round is still to be cleaned up in this process; from now on it is not. */
  firstCleanUp(uid: string): boolean {
    const first = !this.#cleaned.has(uid);
    this.#cleaned.add(uid);
    return first;
  }

  cleanUpFailed(uid: string): void {
    this.#cleaned.delete(uid);
  }

  /** Ends everything that was begun for this round. Again: nothing happens. */
  async close(record: RoundRecord): Promise<void> {
    const { uid } = record;
    this.effects.forget(uid);
    this.#plans.delete(uid);
    const sum = this.#sums.get(uid) ?? this.#secureSums.get(uid);
    for (const kept of [this.#sums, this.#secureSums, this.#machines, this.#views]) kept.delete(uid);
    await (await sum?.catch(() => undefined))?.close();
  }

  async stop(): Promise<void> {
    await this.effects.stop();
    for (const sum of [...this.#sums.values(), ...this.#secureSums.values()])
      await (await sum.catch(() => undefined))?.close();
  }

  async #startSum(uid: string): Promise<RoundSum> {
    const { plan, planHash } = await this.plan(uid);
    const privateKey = await readRoundKey(this.#context.journal, uid);
    if (!privateKey) throw new Error("the journal holds no key of this round");
    const options = { tensors: plan.tensors, planHash, privateKey, clipNorm: Number(plan.aggregation.clipNorm) };
    const sum = new RoundSum(options, () => this.#wake(uid));
    this.#views.set(uid, () => sum.view());
    return sum;
  }

  async #startSecureSum(uid: string): Promise<SecureSum> {
    const { plan } = await this.plan(uid);
    const { terms } = await this.machines(uid);
    const scratch = this.#context.adapters.scratch(`${uid}-sum`);
    let measured = 0;
    const sum = new SecureSum({ plan, terms, scratch }, () => {
      const { unmasked } = sum.view();
      for (const { unmaskSeconds } of unmasked.slice(measured)) this.#context.metrics.unmasked(unmaskSeconds);
      measured = unmasked.length;
      this.#wake(uid);
    });
    const identities = new Map(plan.roster.map(({ participant, identity }) => [participant, identity]));
    this.#views.set(uid, () => secureView(sum.view(), identities));
    return sum;
  }

  #begun<T>(kept: Map<string, Promise<T>>, uid: string, begin: () => Promise<T>): Promise<T> {
    // Work that the end of the round overtook: a thread begun now would never be ended.
    if (this.#cleaned.has(uid)) return Promise.reject(new Error("the round has ended"));
    const known = kept.get(uid) ?? begin();
    kept.set(uid, known);
    // The disk may be back for the next one who asks.
    known.catch(() => kept.get(uid) === known && kept.delete(uid));
    return known;
  }

  #record(uid: string): RoundRecord {
    const record = this.desk.get(uid);
    if (!record) throw new Error("the round was deleted");
    return record;
  }
}

/** A sum that is none says that some vector was wrong and not whose; what is not the dealers' doing has no one to name. */
function secureView(view: SecureSumView, identities: ReadonlyMap<string, string>): SumView {
  const closed = view.lost.map(({ cohort, code, message, accused }): ClosedCohort => {
    const named = accused.map((participant) => ({ participant, identity: identities.get(participant) ?? "" }));
    const known = code === "InconsistentDealer" || code === "SumInvalid" ? code : "NotEnoughShares";
    return { cohort, code: known, message, accused: named };
  });
  const opened = view.unmasked.map(({ cohort, liars }) => ({ cohort, liars }));
  return {
    added: view.added,
    refused: [],
    opened,
    closed,
    ...(view.problem !== undefined && { problem: view.problem }),
  };
}
