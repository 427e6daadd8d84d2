/**
 * The main thread's side of one secure round's ring sum: starts the worker, passes masked vectors on, keeps what became of each cohort.
 * Holds: each vector is passed on once and each cohort is unmasked once by each worker; the worker ends with close(), and every copy of a sum with it.
 * Does not: decide who belongs to U3 (operator/round, secagg/coordinator), nor survive the process: a restart makes the sums again from
 *   spool and journal.
 */
import type { Complete } from "../../secagg/coordinator/states.ts";
import type {
  CohortFault,
  CohortSum,
  Input,
  SecureSumAnswer,
  SecureSumOptions,
  SecureSumRequest,
} from "./secure-sum-messages.ts";
import { type SumListener, SumThreads } from "./sum-threads.ts";

export interface SecureSumView {
  /** Participants whose vectors were taken. */
  added: string[];
  unmasked: CohortSum[];
  lost: CohortFault[];
  /** The worker itself failed: the disk, the memory, the parent. */
  problem?: string;
}

/** Over all cohorts that were unmasked. */
export interface SecureResult {
  contributors: number;
  weight: number;
  /** In the plan's order, in their own unit. */
  metrics: Map<string, number>;
  /** Per tensor, in the plan's order. */
  saturated: number[];
  energy: number[];
  /** The longest of the cohorts. */
  unmaskSeconds: number;
}

export class SecureSum {
  readonly #threads: SumThreads<SecureSumRequest, SecureSumAnswer>;
  readonly #passedOn = new Set<string>();
  readonly #unmasking = new Set<number>();
  readonly #listener: SumListener;
  #view: SecureSumView = { added: [], unmasked: [], lost: [] };

  constructor(options: SecureSumOptions, listener: SumListener) {
    this.#listener = listener;
    const worker = { file: "controllers/round/secure-sum-worker", data: options } as const;
    this.#threads = new SumThreads(worker, listener, (problem) => {
      this.#passedOn.clear();
      this.#unmasking.clear();
      this.#view = { added: [], unmasked: [], lost: this.#view.lost, ...(problem !== undefined && { problem }) };
    });
  }

  view(): SecureSumView {
    return this.#view;
  }

  /** Takes a vector into its cohort's sum, in the background. Again: nothing happens. */
  add({ cohort, participant, file }: Input & { cohort: number }): void {
    if (this.#passedOn.has(participant) || this.#unmasking.has(cohort) || this.#isLost(cohort)) return;
    this.#passedOn.add(participant);
    void this.#threads.ask({ do: "add", cohort, input: { participant, file } }).then((answer) => {
      if (answer?.kind === "added") this.#view = { ...this.#view, added: [...this.#view.added, participant] };
      else if (answer?.kind === "lost") this.#lose(answer.fault);
      else return;
      this.#listener.changed();
    });
  }

  /**
   * Finds the secrets of a cohort whose last step is closed and removes its masks, in the background. Again: nothing happens.
   * @param inputs  of all of U3 at least, whether they were added before or not
   */
  unmask(cohort: number, state: Complete, inputs: Input[]): void {
    if (this.#unmasking.has(cohort) || this.#isLost(cohort)) return;
    this.#unmasking.add(cohort);
    void this.#threads.ask({ do: "unmask", cohort, state: withoutCiphertexts(state), inputs }).then((answer) => {
      if (answer?.kind === "unmasked") this.#view = { ...this.#view, unmasked: [...this.#view.unmasked, answer.sum] };
      else if (answer?.kind === "lost") this.#lose(answer.fault);
      else return;
      this.#listener.changed();
    });
  }

  #isLost(cohort: number): boolean {
    return this.#view.lost.some((fault) => fault.cohort === cohort);
  }

  #lose(fault: CohortFault): void {
    if (!this.#isLost(fault.cohort)) this.#view = { ...this.#view, lost: [...this.#view.lost, fault] };
  }

  /** Of the cohorts unmasked so far; undefined: none is. */
  result(): SecureResult | undefined {
    const { unmasked } = this.#view;
    if (unmasked.length === 0) return undefined;
    return unmasked.map(resultOf).reduce(together);
  }

  /**
   * Writes parent + Σ / (S_t · ΣW / 255) over all cohorts unmasked so far. The same sums give the same bytes.
   * @throws SumAgain; Error with a sentence
   */
  async candidate(parentFile: string, outFile: string): Promise<{ digest: string; byteLength: number }> {
    const cohorts = this.#view.unmasked.map(({ cohort }) => cohort).sort((a, b) => a - b);
    const answer = await this.#threads.ask({ do: "candidate", cohorts, parentFile, outFile });
    if (answer?.kind === "impossible") throw new Error(answer.message);
    if (answer?.kind !== "candidate") throw this.#threads.interruption();
    return { digest: answer.digest, byteLength: answer.byteLength };
  }

  close(): Promise<void> {
    return this.#threads.close();
  }
}

/** Of 128 members they are 16,256 arrays to copy to the other thread, where nobody reads them. */
function withoutCiphertexts(state: Complete): Complete {
  const none = { ack: new Uint8Array(0), shares: [] };
  return { ...state, shared: new Map([...state.shared.keys()].map((index) => [index, none])) };
}

function resultOf({ contributors, weight, metrics, saturated, energy, unmaskSeconds }: CohortSum): SecureResult {
  const byName = new Map(metrics.map(({ name, value }) => [name, value]));
  return { contributors, weight, metrics: byName, saturated, energy, unmaskSeconds };
}

function together(a: SecureResult, b: SecureResult): SecureResult {
  return {
    contributors: a.contributors + b.contributors,
    weight: a.weight + b.weight,
    metrics: new Map([...a.metrics].map(([name, value]) => [name, value + b.metrics.get(name)!])),
    saturated: a.saturated.map((value, i) => value + b.saturated[i]!),
    energy: a.energy.map((value, i) => value + b.energy[i]!),
    unmaskSeconds: Math.max(a.unmaskSeconds, b.unmaskSeconds),
  };
}
