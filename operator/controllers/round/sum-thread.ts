/**
 * The main thread's line to one worker of one round's sum: requests with ids, one answer each; sum.ts and secure-sum.ts say what is asked,
 * sum-threads.ts has the next worker take its place.
 * Holds: every request is answered: by the worker, or with "failed" once it has died or was closed; the worker ends with close().
 */
import { Worker } from "node:worker_threads";
import { threadFile } from "../../threads.ts";

/** What a worker that can answer nothing any more would say; part of every worker's answers. */
export interface Failed {
  id: number;
  kind: "failed";
  message: string;
}

/** A request without its id, of each kind that a union has. */
export type Call<Request> = Request extends { id: number } ? Omit<Request, "id"> : never;

export class SumThread<Request extends { id: number }, Answer extends { id: number }> {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, (answer: Answer | Failed) => void>();
  readonly #lost: (problem: string) => void;
  #nextId = 1;
  #closed = false;

  /** @param lost  told once, with a sentence, when the worker ends without close() */
  constructor(file: Parameters<typeof threadFile>[0], workerData: unknown, lost: (problem: string) => void) {
    this.#lost = lost;
    this.#worker = new Worker(threadFile(file), { workerData, execArgv: [] });
    this.#worker.on("message", (answer: Answer) => {
      this.#waiting.get(answer.id)?.(answer);
      this.#waiting.delete(answer.id);
    });
    this.#worker.on("error", (error) => this.#end(`its thread failed: ${error.message}`));
    this.#worker.on("exit", () => this.#end("its thread ended"));
  }

  /** Closed by us, or dead. */
  get isClosed(): boolean {
    return this.#closed;
  }

  ask(call: Call<Request>): Promise<Answer | Failed> {
    const id = this.#nextId++;
    if (this.#closed) return Promise.resolve({ id, kind: "failed", message: "the sum is closed" });
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      this.#worker.postMessage({ id, ...call });
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#worker.terminate();
  }

  #end(why: string): void {
    const wasClosed = this.#closed;
    this.#closed = true;
    const message = `the sum was lost: ${why}`;
    for (const [id, resolve] of this.#waiting) resolve({ id, kind: "failed", message });
    this.#waiting.clear();
    if (!wasClosed) this.#lost(message);
  }
}
