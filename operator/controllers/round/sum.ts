/**
 * The main thread's side of one round's sum: starts the worker, passes contributions on, keeps what became of each.
 * Holds: each contribution is passed on once; the worker ends with close(), and with it its copy of the round's key.
 * Does not: decide who counts (operator/round).
 */
import type { SumView } from "../../round/world.ts";
import type { SumAnswer, SumOptions, SumRequest } from "./sum-messages.ts";
import { SumThread } from "./sum-thread.ts";

export class RoundSum {
  readonly #thread: SumThread<SumRequest, SumAnswer>;
  readonly #passedOn = new Set<string>();
  readonly #changed: () => void;
  #view: SumView = { added: [], refused: [] };

  /** @param changed  called whenever view() may answer differently */
  constructor(options: SumOptions, changed: () => void) {
    this.#changed = changed;
    this.#thread = new SumThread("controllers/round/sum-worker", options, (problem) => {
      this.#view = { ...this.#view, problem };
      changed();
    });
  }

  view(): SumView {
    return this.#view;
  }

  add(contribution: { participant: string; file: string }): void {
    const { participant, file } = contribution;
    if (this.#thread.isClosed || this.#passedOn.has(participant)) return;
    this.#passedOn.add(participant);
    void this.#thread.ask({ do: "add", participant, file }).then((answer) => {
      if (answer.kind === "added") this.#view = { ...this.#view, added: [...this.#view.added, participant] };
      else if (answer.kind === "refused") {
        const { reason, message } = answer;
        this.#view = { ...this.#view, refused: [...this.#view.refused, { participant, reason, message }] };
      } else if (answer.kind === "failed") this.#view = { ...this.#view, problem: answer.message };
      this.#changed();
    });
  }

  /** @throws Error with a sentence */
  async candidate(parentFile: string, outFile: string): Promise<{ digest: string; byteLength: number }> {
    const answer = await this.#thread.ask({ do: "candidate", parentFile, outFile });
    if (answer.kind !== "candidate") throw new Error(answer.kind === "failed" ? answer.message : "no candidate");
    return { digest: answer.digest, byteLength: answer.byteLength };
  }

  close(): Promise<void> {
    return this.#thread.close();
  }
}
