/**
 * The main thread's side of one round's sum: starts the worker, passes contributions on, keeps what became of each.
 * Holds: each contribution is passed on once; the worker ends with close(), and with it its copy of the round's key.
 * Does not: decide who counts (operator/round).
 */
import { Worker } from "node:worker_threads";
import type { SumView } from "../../round/world.ts";
import { threadFile } from "../../threads.ts";
import type { SumAnswer, SumOptions, SumRequest } from "./sum-messages.ts";

type Call = SumRequest extends infer R ? (R extends { id: number } ? Omit<R, "id"> : never) : never;

export class RoundSum {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, (answer: SumAnswer) => void>();
  readonly #passedOn = new Set<string>();
  readonly #changed: () => void;
  #nextId = 1;
  #view: SumView = { added: [], refused: [] };
  #closed = false;

  /** @param changed  called whenever view() may answer differently */
  constructor(options: SumOptions, changed: () => void) {
    this.#changed = changed;
    this.#worker = new Worker(threadFile("controllers/round/sum-worker"), { workerData: options, execArgv: [] });
    this.#worker.on("message", (answer: SumAnswer) => {
      this.#waiting.get(answer.id)?.(answer);
      this.#waiting.delete(answer.id);
    });
    this.#worker.on("error", (error) => this.#end(`its thread failed: ${error.message}`));
    this.#worker.on("exit", () => this.#end("its thread ended"));
  }

  view(): SumView {
    return this.#view;
  }

  add(contribution: { participant: string; file: string }): void {
    const { participant, file } = contribution;
    if (this.#closed || this.#passedOn.has(participant)) return;
    this.#passedOn.add(participant);
    void this.#ask({ do: "add", participant, file }).then((answer) => {
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
    const answer = await this.#ask({ do: "candidate", parentFile, outFile });
    if (answer.kind !== "candidate") throw new Error(answer.kind === "failed" ? answer.message : "no candidate");
    return { digest: answer.digest, byteLength: answer.byteLength };
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#worker.terminate();
  }

  #ask(call: Call): Promise<SumAnswer> {
    const id = this.#nextId++;
    if (this.#closed) return Promise.resolve({ id, kind: "failed", message: "the sum is closed" });
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      this.#worker.postMessage({ id, ...call } satisfies SumRequest);
    });
  }

  #end(why: string): void {
    const wasClosed = this.#closed;
    this.#closed = true;
    for (const [id, resolve] of this.#waiting) resolve({ id, kind: "failed", message: `the sum was lost: ${why}` });
    this.#waiting.clear();
    if (wasClosed) return;
    this.#view = { ...this.#view, problem: `the sum was lost: ${why}` };
    this.#changed();
  }
}
