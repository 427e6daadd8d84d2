/**
 * What the round controller has at hand while a round is open: its plan, its sum, its work in progress.
 * Holds: nothing in here decides anything that a restart could not find out again from journal, spool and cluster.
 */
import type { RoundRecord } from "../../round/record.ts";
import type { Context } from "../context.ts";
import { Effects } from "../effects.ts";
import type { RoundDesk } from "./desk.ts";
import { type RoundPlan, readPlan, readRoundKey } from "./stored-plan.ts";
import { RoundSum } from "./sum.ts";

export class Workplace {
  readonly effects: Effects;
  readonly desk: RoundDesk;
  readonly #context: Context;
  readonly #wake: (uid: string) => void;
  readonly #plans = new Map<string, RoundPlan>();
  readonly #sums = new Map<string, Promise<RoundSum>>();
  readonly #cleaned = new Set<string>();
  readonly #readySums = new Map<string, RoundSum>();

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

  sumView(uid: string) {
    return this.#readySums.get(uid)?.view() ?? { added: [], refused: [] };
  }

  /** The round's sum; its worker starts with the first contribution. */
  sum(uid: string): Promise<RoundSum> {
    // Work that the end of the round overtook: a thread begun now would never be ended.
    if (this.#cleaned.has(uid)) return Promise.reject(new Error("the round has ended"));
    const known = this.#sums.get(uid) ?? this.#startSum(uid);
    this.#sums.set(uid, known);
    return known;
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
    const sum = this.#sums.get(uid);
    this.#sums.delete(uid);
    this.#readySums.delete(uid);
    await (await sum?.catch(() => undefined))?.close();
  }

  async stop(): Promise<void> {
    await this.effects.stop();
    for (const sum of this.#sums.values()) await (await sum.catch(() => undefined))?.close();
  }

  async #startSum(uid: string): Promise<RoundSum> {
    const { plan, planHash } = await this.plan(uid);
    const privateKey = await readRoundKey(this.#context.journal, uid);
    if (!privateKey) throw new Error("the journal holds no key of this round");
    const options = { tensors: plan.tensors, planHash, privateKey, clipNorm: Number(plan.aggregation.clipNorm) };
    const sum = new RoundSum(options, () => this.#wake(uid));
    this.#readySums.set(uid, sum);
    return sum;
  }
}
