/**
 * Makes y_u, what a participant uploads: the delta quantised, weight and metrics behind it, all masks added (secure-aggregation.md §3 M2, §5).
 * Holds: worker threads do the work, by leaves, and the event loop none; memory is a few MiB per thread; the file appears whole and
 *   fsynced, or not at all.
 * Does not: clip to the plan's norm (delta.ts has), sign, or say that it may be uploaded (the ledger does, with the root).
 */
import { open, rename, rm } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { basename, dirname } from "node:path";
import { Worker } from "node:worker_threads";
import { effect } from "../fault-injection.ts";
import { leafCount, merkleRoot } from "../journal/merkle.ts";
import { openSafetensors } from "../publish/safetensors.ts";
import { valueCount } from "../publish/safetensors-header.ts";
import { SecaggFault } from "../secagg/faults.ts";
import type { MaskKey } from "../secagg/masks.ts";
import type { MetricValues, VectorLayout } from "../secagg/vector.ts";
import { threadFile } from "../threads.ts";
import type { MaskingAnswer, MaskingData, MaskingRequest, TensorTallies, ValueFile } from "./masking-messages.ts";

/** More threads than this wait for the memory, not for a core. */
const MOST_THREADS = 4;

/** Of keystream: about 50 ms of one core, which is what a thread costs until it runs. Below that it would come too late. */
const BYTES_PER_THREAD = 1 << 27;

export interface MaskingOptions {
  layout: VectorLayout;
  /** F32 safetensors with the layout's tensors in their order; times `factor` the delta is within the plan's clipNorm. */
  deltaFile: string;
  /** Likewise; subtracted value by value: deltaFile is then the trained adapter and this its parent, and the delta is in no file. */
  minusFile?: string;
  /** min(1, clipNorm / ‖x‖₂). @default 1: the delta is clipped already */
  factor?: number;
  /** w_u, 1…255 */
  weight: number;
  /** All metrics of the plan but `saturated` and `energy`, which are counted here. */
  metrics: MetricValues;
  /** Of the session: the self mask and one for each other member of U2. */
  keys: readonly MaskKey[];
  /** What was there is replaced: nothing of it can have left, else the ledger would not ask again. */
  outFile: string;
  /** Ends the work and removes what was written. */
  signal?: AbortSignal;
  /** Of keystream: how much is worth a thread. @default BYTES_PER_THREAD */
  bytesPerThread?: number;
}

export interface MaskedVector {
  byteLength: number;
  leaves: Uint8Array[];
  root: Uint8Array;
  /** From the first thread's start to the last leaf: without starting threads and without waiting for the disk. */
  maskingSeconds: number;
}

/**
 * @throws SecaggFault "NonFinite", with the tensor's name
 * @throws Error when the file is not the layout's, on the disk's faults, or the signal's reason
 */
export async function makeMaskedVector(options: MaskingOptions): Promise<MaskedVector> {
  const { layout, deltaFile, minusFile, factor = 1, weight, metrics, keys, outFile, signal } = options;
  signal?.throwIfAborted();
  const delta = await valuesIn(deltaFile, layout);
  const minus = minusFile === undefined ? undefined : await valuesIn(minusFile, layout);
  const part = `${outFile}.part`;
  await using file = await open(part, "w", 0o600);
  const nextPiece = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
  const data: MaskingData = {
    ...{ layout, delta, outFile: part, factor, weight, keys, metrics, nextPiece },
    ...(minus && { minus }),
  };
  const threads = startThreads(data, options.bytesPerThread);
  const stop = () => threads.forEach((thread) => void thread.end(signal?.reason));
  signal?.addEventListener("abort", stop);
  try {
    await Promise.race(threads.map((thread) => thread.answer("started")));
    const startMs = performance.now();
    const leaves = await leavesOf(threads, leafCount(layout.byteLength));
    const maskingSeconds = (performance.now() - startMs) / 1000;
    // Ending threads and syncing take some 10 ms each.
    await Promise.all([file.sync(), ...threads.map((thread) => thread.end())]);
    effect("file", `write ${basename(part)}`);
    signal?.throwIfAborted();
    await rename(part, outFile);
    await syncFolder(dirname(outFile));
    effect("file", `rename ${basename(outFile)}`);
    return { byteLength: layout.byteLength, leaves, root: merkleRoot(leaves), maskingSeconds };
  } catch (error) {
    // Before the file goes: a thread that still runs would write it.
    await Promise.all(threads.map((thread) => thread.end()));
    await rm(part, { force: true });
    effect("file", `remove ${basename(part)}`);
    throw error;
  } finally {
    signal?.removeEventListener("abort", stop);
  }
}

/** Values must lie in the vector's order, one after the other: agent/delta.ts sees to that, and nothing else is masked. */
async function valuesIn(path: string, { tensors }: VectorLayout): Promise<ValueFile> {
  await using file = await openSafetensors(path);
  const held = file.header.tensors;
  const isSame = (tensor: VectorLayout["tensors"][number], i: number) =>
    held[i]?.name === tensor.name && held[i].dtype === "F32" && valueCount(held[i].shape) === tensor.length;
  if (held.length !== tensors.length || !tensors.every(isSame)) {
    throw new Error("the delta's file has not the plan's tensors in their order");
  }
  return { path, dataStart: file.header.dataStart };
}

function startThreads(data: MaskingData, bytesPerThread = BYTES_PER_THREAD): MaskingThread[] {
  const byteLength = data.layout.byteLength;
  const worthIt = Math.ceil((byteLength * data.keys.length) / bytesPerThread);
  const count = Math.max(1, Math.min(availableParallelism(), MOST_THREADS, leafCount(byteLength), worthIt));
  return Array.from({ length: count }, () => new MaskingThread(data));
}

async function leavesOf(threads: MaskingThread[], count: number): Promise<Uint8Array[]> {
  const done = await Promise.all(threads.map((thread) => thread.answer("pieces")));
  const [last, ...others] = threads as [MaskingThread, ...MaskingThread[]];
  for (const thread of others) thread.ask({ do: "end" });
  last.ask({ do: "tail", tallies: done.map(({ tallies }) => tallies).reduce(together) });
  const tail = await last.answer("tail");
  const hashes = new Array<Uint8Array>(count);
  for (const { index, hash } of [...done, tail].flatMap(({ leaves }) => leaves)) hashes[index] = hash;
  return hashes;
}

/** @returns the first one, to which the second was added */
function together(all: TensorTallies, more: TensorTallies): TensorTallies {
  for (let i = 0; i < all.saturated.length; i++) {
    all.saturated[i]! += more.saturated[i]!;
    all.squares[i]! += more.squares[i]!;
  }
  return all;
}

type AnswerOf<K> = Extract<MaskingAnswer, { kind: K }>;

class MaskingThread {
  readonly #worker: Worker;
  readonly #answers: Array<PromiseWithResolvers<MaskingAnswer>> = [];
  #ended: unknown;

  constructor(data: MaskingData) {
    this.#worker = new Worker(threadFile("agent/masking-worker"), { workerData: data, execArgv: [] });
    this.#worker.on("message", (answer: MaskingAnswer) => this.#answers.shift()?.resolve(answer));
    this.#worker.on("error", (error) => this.#end(new Error(`a masking thread failed: ${error.message}`)));
    this.#worker.on("exit", () => this.#end(new Error("a masking thread ended")));
  }

  ask(request: MaskingRequest): void {
    this.#worker.postMessage(request);
  }

  async answer<K extends "started" | "pieces" | "tail">(kind: K): Promise<AnswerOf<K>> {
    if (this.#ended) throw this.#ended;
    const waiting = Promise.withResolvers<MaskingAnswer>();
    this.#answers.push(waiting);
    const answer = await waiting.promise;
    if (answer.kind === kind) return answer as AnswerOf<K>;
    if (answer.kind !== "failed") throw new Error(`a masking thread answered ${answer.kind} instead of ${kind}`);
    throw answer.code ? new SecaggFault(answer.code, answer.message) : new Error(answer.message);
  }

  async end(reason: unknown = new Error("masking was ended")): Promise<void> {
    this.#end(reason);
    await this.#worker.terminate();
  }

  #end(reason: unknown): void {
    this.#ended ??= reason;
    for (const waiting of this.#answers.splice(0)) waiting.reject(this.#ended);
  }
}

async function syncFolder(folder: string): Promise<void> {
  await using handle = await open(folder, "r");
  await handle.sync();
}
