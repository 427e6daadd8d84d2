/**
 * Masks: AES-256-CTR keystreams read as ring elements and added to a vector (secure-aggregation.md §3 "PRG").
 * Holds: counter = byte offset / 16, so that threads start anywhere; block by block over all keys, so that a block stays in cache while
 *   its masks are added; at most 2^36 bytes per key.
 * Does not: agree keys (key-agreement.ts) or decide whose masks they are (participant/, coordinator/).
 */
import { type Cipheriv, createCipheriv } from "node:crypto";
import { BLOCK_BYTES, type Kernel, PLACES } from "./kernels/kernel.ts";
import { MOST_VECTOR_BYTES, RING_BYTES, type Ring } from "./vector.ts";

export interface MaskKey {
  /** 32 bytes: an HKDF output, used for one vector of one session. */
  key: Uint8Array;
  sign: 1 | -1;
}

export const MOST_BYTES_PER_KEY = MOST_VECTOR_BYTES;
/** For tests against its published vectors. */
export const CIPHER = "aes-256-ctr";
const COUNTER_BYTES = 16;
const ZEROS = new Uint8Array(BLOCK_BYTES);

/** The keystream of one key from some place on. */
export class Keystream {
  readonly #cipher: Cipheriv;

  /** @param byteOffset  a multiple of 16, below 2^36 */
  constructor(key: Uint8Array, byteOffset: number) {
    if (byteOffset % COUNTER_BYTES !== 0 || byteOffset < 0 || byteOffset >= MOST_BYTES_PER_KEY) {
      throw new RangeError(`a keystream cannot begin at byte ${byteOffset}`);
    }
    const counter = Buffer.alloc(COUNTER_BYTES);
    counter.writeBigUInt64BE(BigInt(byteOffset / COUNTER_BYTES), 8);
    this.#cipher = createCipheriv(CIPHER, key, counter);
  }

  /** Writes the next bytes of the keystream. @param target  at most BLOCK_BYTES */
  next(target: Uint8Array): void {
    const bytes = this.#cipher.update(target.length === BLOCK_BYTES ? ZEROS : ZEROS.subarray(0, target.length));
    target.set(bytes);
    // Node gives each update a buffer of its own, and collects them late: by then the next ones lie in memory that is in no cache.
    // Giving the memory back at once makes it the next one's: 6.6 instead of 3.6 GB/s (test/bench/secagg).
    if (bytes.length === bytes.buffer.byteLength) bytes.buffer.transfer(0);
  }
}

/** The masks of several keys on the bytes of a vector from some place on, in order. */
export class Masks {
  readonly #streams: Array<{ stream: Keystream; sign: 1 | -1 }>;
  readonly #ring: Ring;
  readonly #kernel: Kernel;

  /** @param byteOffset  where the first block begins: a multiple of 16 */
  constructor(ring: Ring, keys: readonly MaskKey[], byteOffset: number, kernel: Kernel) {
    this.#ring = ring;
    this.#kernel = kernel;
    this.#streams = keys.map(({ key, sign }) => ({ stream: new Keystream(key, byteOffset), sign }));
  }

  /** Adds sign·keystream of every key to the next bytes, which lie at PLACES.block. Uses PLACES.other. */
  applyToBlock(byteLength: number): void {
    const kernel = this.#kernel;
    const keystream = kernel.memory.subarray(PLACES.other, PLACES.other + byteLength);
    for (const { stream, sign } of this.#streams) {
      stream.next(keystream);
      if (sign === 1) kernel.add(this.#ring, PLACES.block, PLACES.other, byteLength);
      else kernel.subtract(this.#ring, PLACES.block, PLACES.other, byteLength);
    }
  }
}

/** A part of a vector: byte offsets, multiples of 16 but for the vector's end. */
export interface ByteRange {
  from: number;
  to: number;
}

/**
 * Adds sign·keystream of every key to a range of a vector, in place. Threads may work on different ranges of one shared vector.
 * @param vector  the whole vector: `range` counts from its start
 */
export function applyMasks(
  vector: Uint8Array,
  ring: Ring,
  keys: readonly MaskKey[],
  { from, to }: ByteRange,
  kernel: Kernel,
): void {
  checkRange(vector, ring, { from, to });
  const masks = new Masks(ring, keys, from, kernel);
  for (let at = from; at < to; at += BLOCK_BYTES) {
    const part = vector.subarray(at, Math.min(at + BLOCK_BYTES, to));
    kernel.memory.set(part, PLACES.block);
    masks.applyToBlock(part.length);
    part.set(kernel.memory.subarray(PLACES.block, PLACES.block + part.length));
  }
}

/**
 * Adds a piece of a vector to the same place of a sum, in the ring.
 * @param at     where the piece begins: a multiple of an element's size
 * @param piece  of any length; may be empty
 */
export function addToSum(sum: Uint8Array, ring: Ring, at: number, piece: Uint8Array, kernel: Kernel): void {
  checkRange(sum, ring, { from: at, to: at + piece.length });
  for (let done = 0; done < piece.length; done += BLOCK_BYTES) {
    const other = piece.subarray(done, done + BLOCK_BYTES);
    const part = sum.subarray(at + done, at + done + other.length);
    kernel.memory.set(part, PLACES.block);
    kernel.memory.set(other, PLACES.other);
    kernel.add(ring, PLACES.block, PLACES.other, part.length);
    part.set(kernel.memory.subarray(PLACES.block, PLACES.block + part.length));
  }
}

function checkRange(vector: Uint8Array, ring: Ring, { from, to }: ByteRange): void {
  const width = RING_BYTES[ring];
  if (from % width !== 0 || to % width !== 0 || from < 0 || from > to || to > vector.length) {
    throw new RangeError(`bytes ${from} to ${to} of a vector of ${vector.length}`);
  }
}
