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
import type { SumListener } from "./sum-threads.ts";

/** Plans, sums and cohorts belong to one attempt; a record names its own. */
export type Attempt = Pick<RoundRecord, "uid" | "attempt">;

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
  readonly #dropped = new Set<string>();
  readonly #views = new Map<string, () => SumView>();

  /** @param wake  looks at the round with this uid again, soon */
  constructor(context: Context, desk: RoundDesk, wake: (uid: string) => void) {
    this.#context = context;
    this.desk = desk;
    this.#wake = wake;
    this.effects = new Effects(wake, context.now);
  }

  /** @throws Error when this attempt of the round was never planned */
  async plan({ uid, attempt: current }: Attempt, attempt = current): Promise<RoundPlan> {
    const key = keyOf({ uid, attempt });
    const known = this.#plans.get(key) ?? (await readPlan(this.#context.journal, { uid, attempt }));
    if (!known) throw new Error(`the journal holds no plan of attempt ${attempt} of this round`);
    this.#plans.set(key, known);
    return known;
  }

  sumView(of: Attempt): SumView {
    return this.#views.get(keyOf(of))?.() ?? { added: [], refused: [] };
  }

  /** The sum of a trusted round; its worker starts with the first contribution. */
  sum(of: Attempt): Promise<RoundSum> {
    return this.#begun(this.#sums, of, () => this.#startSum(of));
  }

  /** The sum of an attempt of a secure round, likewise. */
  secureSum(of: Attempt): Promise<SecureSum> {
    return this.#begun(this.#secureSums, of, () => this.#startSecureSum(of));
  }

  /** The coordinator's side of the cohorts of an attempt of a secure round. */
  machines(of: Attempt): Promise<CohortMachines> {
    return this.#begun(this.#machines, of, async () => {
      const plan = await this.plan(of);
      return CohortMachines.load(this.#context.journal, plan, () => this.#record(of));
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

  /** As firstCleanUp, of an attempt that another one follows. */
  firstDrop(of: Attempt): boolean {
    const key = keyOf(of);
    const first = !this.#dropped.has(key);
    this.#dropped.add(key);
    return first;
  }

  dropFailed(of: Attempt): void {
    this.#dropped.delete(keyOf(of));
  }

  /** Ends everything that was begun for this round. Again: nothing happens. */
  async close({ uid, attempt: last }: Attempt): Promise<void> {
    this.effects.forget(uid);
    for (let attempt = 1; attempt <= last; attempt++) {
      this.#plans.delete(keyOf({ uid, attempt }));
      await this.closeAttempt({ uid, attempt });
    }
  }

  /** Ends the sum and the cohorts of this attempt. Its plan stays: the next one is made of it. */
  async closeAttempt(of: Attempt): Promise<void> {
    const key = keyOf(of);
    const sum = this.#sums.get(key) ?? this.#secureSums.get(key);
    for (const kept of [this.#sums, this.#secureSums, this.#machines, this.#views]) kept.delete(key);
    await (await sum?.catch(() => undefined))?.close();
  }

  async stop(): Promise<void> {
    await this.effects.stop();
    for (const sum of [...this.#sums.values(), ...this.#secureSums.values()])
      await (await sum.catch(() => undefined))?.close();
  }

  async #startSum(of: Attempt): Promise<RoundSum> {
    const { plan, planHash } = await this.plan(of);
    const privateKey = await readRoundKey(this.#context.journal, of.uid);
    if (!privateKey) throw new Error("the journal holds no key of this round");
    const options = { tensors: plan.tensors, planHash, privateKey, clipNorm: Number(plan.aggregation.clipNorm) };
    const sum = new RoundSum(options, this.#listener(of.uid));
    this.#views.set(keyOf(of), () => sum.view());
    return sum;
  }

  async #startSecureSum(of: Attempt): Promise<SecureSum> {
    const { plan } = await this.plan(of);
    const { terms } = await this.machines(of);
    const scratch = this.#context.adapters.scratch(`${of.uid}-sum`);
    let measured = 0;
    const listener = this.#listener(of.uid);
    const changed = () => {
      const { unmasked } = sum.view();
      for (const { unmaskSeconds } of unmasked.slice(measured)) this.#context.metrics.unmasked(unmaskSeconds);
      measured = Math.max(measured, unmasked.length);
      listener.changed();
    };
    const sum = new SecureSum({ plan, terms, scratch }, { ...listener, changed });
    const identities = new Map(plan.roster.map(({ participant, identity }) => [participant, identity]));
    this.#views.set(keyOf(of), () => secureView(sum.view(), identities));
    return sum;
  }

  #listener(uid: string): SumListener {
    const { log, storage } = this.#context;
    return {
      changed: () => this.#wake(uid),
      diskFull: () => storage.noteFull(),
      again: (problem, tries) => log.warn({ uid, problem, tries }, "the sum is made again from the spool"),
    };
  }

  #begun<T>(kept: Map<string, Promise<T>>, of: Attempt, begin: () => Promise<T>): Promise<T> {
    const key = keyOf(of);
    // Work that the end of the round, or of the attempt, overtook: a thread begun now would never be ended.
    if (this.#cleaned.has(of.uid)) return Promise.reject(new Error("the round has ended"));
    if (this.desk.get(of.uid)?.attempt !== of.attempt) return Promise.reject(new Error("the attempt has ended"));
    const known = kept.get(key) ?? begin();
    kept.set(key, known);
    // The disk may be back for the next one who asks.
    known.catch(() => kept.get(key) === known && kept.delete(key));
    return known;
  }

  #record({ uid, attempt }: Attempt): RoundRecord {
    const record = this.desk.get(uid);
    if (record?.attempt !== attempt) throw new Error("the round was deleted, or its attempt has ended");
    return record;
  }
}

function keyOf({ uid, attempt }: Attempt): string {
  return `${uid} ${attempt}`;
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
