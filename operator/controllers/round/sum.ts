/**
 * The main thread's side of one round's sum: starts the worker, passes contributions on, keeps what became of each.
 * Holds: each contribution is passed on once to each worker; the worker ends with close(), and with it its copy of the round's key.
 * Does not: decide who counts (operator/round).
 */
import type { RoundMetrics } from "../../round/record.ts";
import type { SumView } from "../../round/world.ts";
import type { SumAnswer, SumOptions, SumRequest } from "./sum-messages.ts";
import { type SumListener, SumThreads } from "./sum-threads.ts";

export class RoundSum {
  readonly #threads: SumThreads<SumRequest, SumAnswer>;
  readonly #passedOn = new Set<string>();
  readonly #listener: SumListener;
  #view: SumView = { added: [], refused: [] };

  constructor(options: SumOptions, listener: SumListener) {
    this.#listener = listener;
    const worker = { file: "controllers/round/sum-worker", data: options } as const;
    this.#threads = new SumThreads(worker, listener, (problem) => {
      this.#passedOn.clear();
      this.#view = { added: [], refused: this.#view.refused, ...(problem !== undefined && { problem }) };
    });
  }

  view(): SumView {
    return this.#view;
  }

  add(contribution: { participant: string; file: string }): void {
    const { participant, file } = contribution;
    if (this.#passedOn.has(participant)) return;
    this.#passedOn.add(participant);
    void this.#threads.ask({ do: "add", participant, file }).then((answer) => {
      if (answer?.kind === "added") this.#view = { ...this.#view, added: [...this.#view.added, participant] };
      else if (answer?.kind === "refused") {
        const { reason, message } = answer;
        this.#view = { ...this.#view, refused: [...this.#view.refused, { participant, reason, message }] };
      } else return;
      this.#listener.changed();
    });
  }

  /** @throws SumAgain; Error with a sentence */
  async candidate(
    parentFile: string,
    outFile: string,
  ): Promise<{ digest: string; byteLength: number; metrics?: RoundMetrics }> {
    const answer = await this.#threads.ask({ do: "candidate", parentFile, outFile });
    if (answer?.kind === "impossible") throw new Error(answer.message);
    if (answer?.kind !== "candidate") throw this.#threads.interruption();
    const { digest, byteLength, metrics } = answer;
    return { digest, byteLength, ...(metrics && { metrics }) };
  }

  close(): Promise<void> {
    return this.#threads.close();
  }
}
