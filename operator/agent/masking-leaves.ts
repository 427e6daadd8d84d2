/**
 * Makes leaves of a masked vector from the delta's file: quantised, rounded, masked, hashed (secure-aggregation.md §5, §3).
 * Holds: memory is one leaf and the kernel's blocks; each value of a leaf gets a draw of its own.
 * Does not: write files or know of other threads (masking-worker.ts).
 */
import { readSync } from "node:fs";
import { subtract } from "../aggregation/delta.ts";
import { LEAF_BYTES, leafHash } from "../journal/merkle.ts";
import { SecaggFault } from "../secagg/faults.ts";
import {
  BLOCK_BYTES,
  clearTally,
  type Kernel,
  PLACES,
  type Quantisation,
  readTally,
} from "../secagg/kernels/kernel.ts";
import { type Keystream, type MaskKey, Masks } from "../secagg/masks.ts";
import { quantisationOf } from "../secagg/ring.ts";
import { RING_BYTES, type VectorLayout } from "../secagg/vector.ts";
import type { HashedLeaf, TensorTallies } from "./masking-messages.ts";

/** An open file (a descriptor) and where its float32 values begin. */
export interface OpenValues {
  file: number;
  dataStart: number;
}

export interface LeafSource {
  layout: VectorLayout;
  delta: OpenValues;
  /** Subtracted from it. */
  minus?: OpenValues;
  /** min(1, clipNorm / ‖x‖₂) */
  factor: number;
  weight: number;
  keys: readonly MaskKey[];
  /** For rounding; drawn from and never rewound. */
  draws: Keystream;
  kernel: Kernel;
}

/** The first leaf that holds anything behind the tensors: it and those after it wait for what all threads have counted. */
export function firstTailLeaf({ ring, weightAt }: VectorLayout): number {
  return Math.floor((weightAt * RING_BYTES[ring]) / LEAF_BYTES);
}

export class LeafMaker {
  readonly tallies: TensorTallies;
  readonly #source: LeafSource;
  readonly #quantisations: Quantisation[];
  readonly #leaf = new Uint8Array(LEAF_BYTES);
  /** What is subtracted from a block: a value for each of its elements. */
  readonly #minus = new Float32Array(BLOCK_BYTES / 2);

  constructor(source: LeafSource) {
    const { layout, factor, weight } = source;
    this.#source = source;
    this.#quantisations = layout.tensors.map((tensor) => quantisationOf(layout, tensor, weight, factor));
    const perTensor = () => new Float64Array(layout.tensors.length);
    this.tallies = { saturated: perTensor(), squares: perTensor() };
  }

  /**
   * @param leaves  the first leaf and the one after the last
   * @param tail    what lies behind the tensors; asked for when a leaf has some of it
   * @param taken   gets each leaf, valid until it returns
   * @throws SecaggFault "NonFinite"
   */
  make(
    leaves: { from: number; to: number },
    tail: Uint8Array | undefined,
    taken: (leaf: Uint8Array, at: number) => void,
  ): HashedLeaf[] {
    const { layout, keys, kernel } = this.#source;
    const masks = new Masks(layout.ring, keys, leaves.from * LEAF_BYTES, kernel);
    const hashed: HashedLeaf[] = [];
    for (let index = leaves.from; index < leaves.to; index++) {
      const begins = index * LEAF_BYTES;
      const leaf = this.#leaf.subarray(0, Math.min(LEAF_BYTES, layout.byteLength - begins));
      for (let at = 0; at < leaf.length; at += BLOCK_BYTES) {
        const byteLength = Math.min(BLOCK_BYTES, leaf.length - at);
        this.#quantiseBlock(begins + at, byteLength);
        if (tail) this.#putTail(tail, begins + at, byteLength);
        masks.applyToBlock(byteLength);
        leaf.set(kernel.memory.subarray(PLACES.block, PLACES.block + byteLength), at);
      }
      taken(leaf, begins);
      hashed.push({ index, hash: leafHash(leaf) });
    }
    return hashed;
  }

  /** Counts what make() will count in the tensors' last part, so that the counters can be in the same leaves. */
  countTail(): void {
    const { layout } = this.#source;
    const ends = layout.weightAt * RING_BYTES[layout.ring];
    for (let at = firstTailLeaf(layout) * LEAF_BYTES; at < ends; at += BLOCK_BYTES) {
      this.#quantiseBlock(at, Math.min(BLOCK_BYTES, ends - at));
    }
  }

  /** The values of the tensors in a block; what lies behind them is left as it is. */
  #quantiseBlock(at: number, byteLength: number): void {
    const { layout, draws, kernel } = this.#source;
    const width = RING_BYTES[layout.ring];
    const first = at / width;
    const count = Math.min(byteLength / width, layout.weightAt - first);
    if (count <= 0) return;
    this.#readValues(first, count);
    for (let done = 0; done < 4 * count; done += BLOCK_BYTES) {
      const begins = PLACES.draws + done;
      draws.next(kernel.memory.subarray(begins, begins + Math.min(BLOCK_BYTES, 4 * count - done)));
    }
    for (let i = tensorAt(layout, first); i < layout.tensors.length && layout.tensors[i]!.at < first + count; i++) {
      const tensor = layout.tensors[i]!;
      const from = Math.max(tensor.at, first);
      const to = Math.min(tensor.at + tensor.length, first + count);
      clearTally(kernel);
      kernel.quantise(layout.ring, from - first, to - from, this.#quantisations[i]!);
      this.#count(i);
    }
  }

  /** To PLACES.values. */
  #readValues(first: number, count: number): void {
    const { delta, minus, kernel } = this.#source;
    const values = new Float32Array(kernel.memory.buffer, kernel.memory.byteOffset + PLACES.values, count);
    readExactly(delta.file, bytesOf(values), delta.dataStart + 4 * first);
    if (!minus) return;
    const before = this.#minus.subarray(0, count);
    readExactly(minus.file, bytesOf(before), minus.dataStart + 4 * first);
    // What is not finite shows in the tally.
    subtract(values, before, values);
  }

  #count(tensor: number): void {
    const { saturated, squares, trace } = readTally(this.#source.kernel);
    if (Number.isNaN(trace)) {
      const { name } = this.#source.layout.tensors[tensor]!;
      throw new SecaggFault("NonFinite", `the delta has values that are not finite in tensor ${name}`.slice(0, 256));
    }
    this.tallies.saturated[tensor]! += saturated;
    this.tallies.squares[tensor]! += squares;
  }

  #putTail(tail: Uint8Array, at: number, byteLength: number): void {
    const { layout, kernel } = this.#source;
    const tailAt = layout.weightAt * RING_BYTES[layout.ring];
    const from = Math.max(tailAt, at);
    if (from < at + byteLength) kernel.memory.set(tail.subarray(from - tailAt, at + byteLength - tailAt), from - at);
  }
}

/** The tensor that holds this element. */
function tensorAt({ tensors }: VectorLayout, element: number): number {
  let [low, high] = [0, tensors.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (tensors[middle]!.at <= element) low = middle;
    else high = middle - 1;
  }
  return low;
}

const bytesOf = (values: Float32Array) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

function readExactly(file: number, bytes: Uint8Array, position: number): void {
  let done = 0;
  while (done < bytes.length) {
    const read = readSync(file, bytes, done, bytes.length - done, position + done);
    if (read === 0) throw new Error("the delta became shorter while it was read");
    done += read;
  }
}
