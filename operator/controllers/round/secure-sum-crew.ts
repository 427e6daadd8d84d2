/**
 * The threads that take masks off a sum: the ring-sum worker itself and its helpers, together one for each core, at most four.
 * Four: beyond that the memory, not the cores, sets the pace, and each costs some 10 MiB of the operator's memory.
 */
import { once } from "node:events";
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import type { Kernel } from "../../secagg/kernels/kernel.ts";
import type { MaskKey } from "../../secagg/masks.ts";
import type { Ring } from "../../secagg/vector.ts";
import { threadFile } from "../../threads.ts";
import type { UnmaskTask } from "./secure-sum-messages.ts";
import { PIECE_BYTES, unmaskPieces } from "./secure-sum-pieces.ts";

const MOST_THREADS = 4;

export class Crew {
  readonly #kernel: Kernel;
  readonly #helpers: Worker[];

  /** Begins at once: a thread takes longer to start than a small vector takes to unmask. @param byteLength  of the vectors to come */
  constructor(kernel: Kernel, byteLength: number, threads = Math.min(availableParallelism(), MOST_THREADS)) {
    this.#kernel = kernel;
    const helpers = Math.min(threads, Math.ceil(byteLength / PIECE_BYTES)) - 1;
    const file = threadFile("controllers/round/unmask-worker");
    this.#helpers = Array.from({ length: helpers }, () => new Worker(file, { execArgv: [] }));
  }

  /**
   * Adds sign·keystream of every key to the whole vector, in place.
   * @throws Error when a helper dies; the vector is then worth nothing
   */
  async unmask(vector: SharedArrayBuffer, ring: Ring, keys: MaskKey[]): Promise<void> {
    const task: UnmaskTask = { vector, ring, keys, next: new SharedArrayBuffer(4) };
    const done = this.#helpers.map((helper) => finished(helper));
    for (const helper of this.#helpers) helper.postMessage(task);
    unmaskPieces(task, this.#kernel);
    await Promise.all(done);
  }
}

/** Its answer, or its death: once() rejects with what "error" carries. */
function finished(helper: Worker): Promise<unknown> {
  const dead = once(helper, "exit").then(() => {
    throw new Error("a helper thread of the sum ended");
  });
  return Promise.race([once(helper, "message"), dead]);
}
