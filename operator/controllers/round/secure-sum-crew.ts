/**
 * The threads that take masks off a sum: the ring-sum worker itself and as many helpers as the work is worth.
 * Holds: at most one thread for each core and four together: beyond that the memory, not the cores, sets the pace, and each costs some
 *   10 MiB of the operator's memory.
 */
import { once } from "node:events";
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import type { Kernel } from "../../secagg/kernels/kernel.ts";
import type { MaskKey } from "../../secagg/masks.ts";
import type { Ring } from "../../secagg/vector.ts";
import { threadFile } from "../../threads.ts";
import type { UnmaskTask } from "./secure-sum-messages.ts";
import { unmaskPieces } from "./secure-sum-pieces.ts";

const MOST_THREADS = Math.min(availableParallelism(), 4);

/** Of keystream: about 50 ms of one core, which is what a thread costs until it runs. Below that it would come too late. */
const BYTES_PER_THREAD = 1 << 27;

export class Crew {
  readonly #kernel: Kernel;
  readonly #bytesPerThread: number;
  readonly #helpers: Worker[] = [];

  constructor(kernel: Kernel, bytesPerThread = BYTES_PER_THREAD) {
    this.#kernel = kernel;
    this.#bytesPerThread = bytesPerThread;
  }

  get threads(): number {
    return 1 + this.#helpers.length;
  }

  /**
   * Adds sign·keystream of every key to the whole vector, in place.
   * @throws Error when a helper dies; the vector is then worth nothing
   */
  async unmask(vector: SharedArrayBuffer, ring: Ring, keys: MaskKey[]): Promise<void> {
    const helpers = this.#for(vector.byteLength * keys.length);
    const task: UnmaskTask = { vector, ring, keys, next: new SharedArrayBuffer(4) };
    const done = helpers.map((helper) => finished(helper));
    for (const helper of helpers) helper.postMessage(task);
    unmaskPieces(task, this.#kernel);
    await Promise.all(done);
  }

  async close(): Promise<void> {
    await Promise.all(this.#helpers.map((helper) => helper.terminate()));
  }

  #for(bytes: number): Worker[] {
    const helpers = Math.min(MOST_THREADS, Math.ceil(bytes / this.#bytesPerThread)) - 1;
    const file = threadFile("controllers/round/unmask-worker");
    while (this.#helpers.length < helpers) this.#helpers.push(new Worker(file, { execArgv: [] }));
    return this.#helpers.slice(0, Math.max(helpers, 0));
  }
}

/** Its answer, or its death: once() rejects with what "error" carries. */
async function finished(helper: Worker): Promise<void> {
  const settled = new AbortController();
  const { signal } = settled;
  const dead = once(helper, "exit", { signal }).then(() => {
    throw new Error("a helper thread of the sum ended");
  });
  try {
    await Promise.race([once(helper, "message", { signal }), dead]);
  } finally {
    // The listeners of one cohort must not be there for the next.
    settled.abort();
  }
}
