/**
 * One vector of memory for the sums of all cohorts of a round, one cohort at a time.
 * Holds: the sum of a cohort is that of whole vectors of the participants in `members`, each once; what is not in memory is made again
 *   from the spool (not yet unmasked) or lies in a file without a name (unmasked), so that memory does not grow with cohorts.
 */
import { closeSync, openSync, readSync, unlinkSync, writeSync } from "node:fs";
import type { RingElements } from "../../aggregation/ring-mean.ts";
import { SecaggFault } from "../../secagg/faults.ts";
import type { Kernel } from "../../secagg/kernels/kernel.ts";
import { addToSum } from "../../secagg/masks.ts";
import { RING_BYTES, type VectorLayout } from "../../secagg/vector.ts";
import type { Input } from "./secure-sum-messages.ts";

/** A quarter of a core's cache, so that what was read is still there when it is added. */
const READ_BYTES = 1 << 18;

export class Accumulator {
  readonly vector: SharedArrayBuffer;
  /** In the sum. */
  readonly members = new Set<string>();
  readonly #bytes: Uint8Array;
  readonly #layout: VectorLayout;
  readonly #kernel: Kernel;
  readonly #buffer = new Uint8Array(READ_BYTES);

  constructor(layout: VectorLayout, kernel: Kernel) {
    this.#layout = layout;
    this.#kernel = kernel;
    this.vector = new SharedArrayBuffer(layout.byteLength);
    this.#bytes = new Uint8Array(this.vector);
  }

  clear(): void {
    if (this.members.size > 0) this.#bytes.fill(0);
    this.members.clear();
  }

  /**
   * @throws SecaggFault "SumInvalid" when the volume has lost the vector, or a part of it; what the file system throws. The sum is then worth
   *   nothing until clear()
   */
  add({ participant, file }: Input): void {
    if (this.members.has(participant)) return;
    // Before the first byte: a half-added vector must be cleared away too.
    this.members.add(participant);
    const { ring, byteLength } = this.#layout;
    const opened = openVector(file, participant);
    try {
      for (let at = 0; at < byteLength; at += READ_BYTES) {
        const piece = this.#buffer.subarray(0, Math.min(READ_BYTES, byteLength - at));
        readExactly(opened, at, piece);
        addToSum(this.#bytes, ring, at, piece, this.#kernel);
      }
    } finally {
      closeSync(opened);
    }
  }

  /** A view of elements, unsigned as they are in the ring. */
  tail(): Uint32Array | Uint16Array {
    const { ring, weightAt } = this.#layout;
    const begin = weightAt * RING_BYTES[ring];
    return ring === "u32" ? new Uint32Array(this.vector, begin) : new Uint16Array(this.vector, begin);
  }

  sum(): UnmaskedSum {
    const { vector } = this;
    const { ring } = this.#layout;
    return { read: (at, count) => signed(ring, vector, at, count), close: () => {} };
  }

  /** The sum in a file of its own, so that clear() may come. @param path  free; its name is gone when this returns */
  toFile(path: string): UnmaskedSum {
    const { ring } = this.#layout;
    const file = openSync(path, "w+", 0o600);
    unlinkSync(path);
    for (let at = 0; at < this.#bytes.length; ) at += writeSync(file, this.#bytes, at, this.#bytes.length - at, at);
    let buffer = new ArrayBuffer(0);
    return {
      read(at, count) {
        const byteLength = count * RING_BYTES[ring];
        if (buffer.byteLength < byteLength) buffer = new ArrayBuffer(byteLength);
        readExactly(file, at * RING_BYTES[ring], new Uint8Array(buffer, 0, byteLength));
        return signed(ring, buffer, 0, count);
      },
      close: () => closeSync(file),
    };
  }
}

/** The unmasked sum of a cohort. */
export interface UnmaskedSum {
  /** `count` elements from element `at` on, as the centred lift; good until the next read. */
  read(at: number, count: number): RingElements;
  close(): void;
}

function signed(ring: VectorLayout["ring"], buffer: ArrayBufferLike, at: number, count: number): RingElements {
  const begin = at * RING_BYTES[ring];
  return ring === "u32" ? new Int32Array(buffer, begin, count) : new Int16Array(buffer, begin, count);
}

function openVector(file: string, participant: string): number {
  try {
    return openSync(file, "r");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    throw new SecaggFault("SumInvalid", `the operator's volume has lost the masked vector of ${participant}`);
  }
}

function readExactly(file: number, position: number, bytes: Uint8Array): void {
  let done = 0;
  while (done < bytes.length) {
    const read = readSync(file, bytes, done, bytes.length - done, position + done);
    if (read === 0) throw new SecaggFault("SumInvalid", "a masked vector in the spool is shorter than planned");
    done += read;
  }
}
