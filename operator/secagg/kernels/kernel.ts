/**
 * Arithmetic on blocks of ring elements: the contract of scalar.ts (plain, the truth) and simd.ts (WebAssembly, what runs).
 * Holds: a kernel has a small memory of its own and belongs to one thread; places are byte offsets into it, multiples of 8; both
 *   kernels give the same bytes.
 * Does not: make keystreams (masks.ts) or know what lies in a vector (vector.ts).
 */
import type { Ring } from "../vector.ts";

/** 64 KiB (measured: smaller ones cost calls, larger ones the cache): a block, its keystream and the input it is made of stay in a core's cache. */
export const BLOCK_BYTES = 1 << 16;

/** Where a kernel's work lies in its memory. A place is there for whoever calls, the kernel itself keeps nothing. */
export const PLACES = {
  /** One block of ring elements that is being worked on. */
  block: 0,
  /** One block of keystream or of another vector, to be added or subtracted. */
  other: BLOCK_BYTES,
  /** float32 of one block: as many values as it has elements, hence up to two blocks of bytes. */
  values: 2 * BLOCK_BYTES,
  /** As many u32: draws for rounding. */
  draws: 4 * BLOCK_BYTES,
  /** Tally. */
  tally: 6 * BLOCK_BYTES,
} as const;

export const MEMORY_BYTES = 7 * BLOCK_BYTES;

/** How one tensor is quantised. */
export interface Quantisation {
  /** min(1, clipNorm / ‖x‖₂), or 1 for values that are clipped already. */
  factor: number;
  /** C_t > 0. */
  clip: number;
  /** (w_u / 255) · S_t */
  gain: number;
  /** M */
  largest: number;
}

/** What quantise() adds up over its calls. */
export interface Tally {
  /** Values beyond ±C_t. */
  saturated: number;
  /** Σ x², after clipping. */
  squares: number;
  /** 0, or NaN once a value was not finite; what was written then is worth nothing. */
  trace: number;
}

export interface Kernel {
  readonly name: string;
  readonly memory: Uint8Array<ArrayBuffer>;
  /** memory[target…] += memory[source…] in the ring. */
  add(ring: Ring, target: number, source: number, byteLength: number): void;
  /** memory[target…] −= memory[source…] in the ring. */
  subtract(ring: Ring, target: number, source: number, byteLength: number): void;
  /**
   * Values `first` to `first + count` of those at PLACES.values, rounded with the same of the draws at PLACES.draws, become the same
   * elements of the block at PLACES.block (ring.ts says how). The tally at PLACES.tally goes on.
   */
  quantise(ring: Ring, first: number, count: number, quantisation: Quantisation): void;
}

export function readTally(kernel: Kernel): Tally {
  const [saturated, squares, trace] = tallyOf(kernel);
  return { saturated: saturated!, squares: squares!, trace: trace! };
}

export function clearTally(kernel: Kernel): void {
  tallyOf(kernel).fill(0);
}

function tallyOf({ memory }: Kernel): Float64Array<ArrayBuffer> {
  return new Float64Array(memory.buffer, memory.byteOffset + PLACES.tally, 3);
}
