/**
 * A thread that makes a masked vector together with others: takes the next leaves that nobody has taken until none are left;
 * then one of the threads makes the last leaves, in which the counters of all of them lie.
 * Holds: rounding draws from a key of this thread that nobody else has; it is zeroed, and so are this thread's copies of the mask keys
 *   unless it is terminated.
 * Does not: sync or name the file (masking.ts).
 */
import { randomBytes } from "node:crypto";
import { closeSync, openSync, writeSync } from "node:fs";
import { isMainThread, parentPort, workerData } from "node:worker_threads";
import { leafCount } from "../journal/merkle.ts";
import { SecaggFault } from "../secagg/faults.ts";
import { simdKernel } from "../secagg/kernels/simd.ts";
import { Keystream } from "../secagg/masks.ts";
import { encodeTail, type MetricValues } from "../secagg/vector.ts";
import { firstTailLeaf, LeafMaker } from "./masking-leaves.ts";
import type {
  HashedLeaf,
  MaskingAnswer,
  MaskingData,
  MaskingRequest,
  TensorTallies,
  ValueFile,
} from "./masking-messages.ts";

if (isMainThread || !parentPort) throw new Error("masking-worker.ts runs in a worker thread only");
const port = parentPort;
const data = workerData as MaskingData;
const { layout, factor, weight, keys } = data;

/** Leaves that are taken together: opening the keys' streams costs 3 µs each, and the last one to finish should not keep the others waiting. */
const PIECE_LEAVES = 2;

const opened = ({ path, dataStart }: ValueFile) => ({ file: openSync(path, "r"), dataStart });
const delta = opened(data.delta);
const minus = data.minus && opened(data.minus);
const out = openSync(data.outFile, "r+");
const roundingKey = randomBytes(32);
const draws = new Keystream(roundingKey, 0);
roundingKey.fill(0);
const maker = new LeafMaker({
  layout,
  delta,
  ...(minus && { minus }),
  factor,
  weight,
  keys,
  draws,
  kernel: simdKernel(),
});

port.on("message", (request: MaskingRequest) => {
  if (request.do === "tail") answer(() => ({ kind: "tail", leaves: makeTail(request.tallies) }));
  close();
});
answer(() => ({ kind: "started" }));
if (!answer(() => ({ kind: "pieces", leaves: makePieces(), tallies: maker.tallies }))) close();

/** @returns whether it was done */
function answer(work: () => MaskingAnswer): boolean {
  try {
    port.postMessage(work());
    return true;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const code = error instanceof SecaggFault ? { code: error.code } : {};
    port.postMessage({ kind: "failed", ...code, message } satisfies MaskingAnswer);
    return false;
  }
}

function makePieces(): HashedLeaf[] {
  const next = new Int32Array(data.nextPiece);
  const end = firstTailLeaf(layout);
  const leaves: HashedLeaf[] = [];
  for (;;) {
    const from = Atomics.add(next, 0, 1) * PIECE_LEAVES;
    if (from >= end) return leaves;
    leaves.push(...maker.make({ from, to: Math.min(from + PIECE_LEAVES, end) }, undefined, write));
  }
}

/** @param all  of all threads, this one's included */
function makeTail(all: TensorTallies): HashedLeaf[] {
  const before = { saturated: maker.tallies.saturated.slice(), squares: maker.tallies.squares.slice() };
  maker.countTail();
  for (let i = 0; i < layout.tensors.length; i++) {
    all.saturated[i]! += maker.tallies.saturated[i]! - before.saturated[i]!;
    all.squares[i]! += maker.tallies.squares[i]! - before.squares[i]!;
  }
  const tail = encodeTail(layout, weight, { ...data.metrics, ...countersOf(all) });
  return maker.make({ from: firstTailLeaf(layout), to: leafCount(layout.byteLength) }, tail, write);
}

/** What the vector says of its own tensors: coordinates beyond the clip, and w·mean(x²)/C². */
function countersOf({ saturated, squares }: TensorTallies): MetricValues {
  const energy = layout.tensors.map(({ length, clip }, i) => (weight * (squares[i]! / length)) / clip ** 2);
  return { saturated: [...saturated], energy };
}

function write(leaf: Uint8Array, at: number): void {
  let done = 0;
  while (done < leaf.length) done += writeSync(out, leaf, done, leaf.length - done, at + done);
}

function close(): void {
  for (const { key } of keys) key.fill(0);
  closeSync(delta.file);
  if (minus) closeSync(minus.file);
  closeSync(out);
  port.close();
}
