/** The kernels in plain loops over typed arrays: the truth that simd.ts must equal bit by bit. */
import { quantiseOne, toRing } from "../ring.ts";
import { RING_BYTES, type Ring } from "../vector.ts";
import { type Kernel, MEMORY_BYTES, PLACES, type Quantisation } from "./kernel.ts";

export function scalarKernel(): Kernel {
  const memory = new Uint8Array(MEMORY_BYTES);
  const elements = (ring: Ring, at: number, count: number) =>
    ring === "u32" ? new Uint32Array(memory.buffer, at, count) : new Uint16Array(memory.buffer, at, count);
  const pair = (ring: Ring, target: number, source: number, byteLength: number) => {
    const count = byteLength / RING_BYTES[ring];
    return { to: elements(ring, target, count), from: elements(ring, source, count) };
  };

  return {
    name: "scalar",
    memory,
    add(ring, target, source, byteLength) {
      const { to, from } = pair(ring, target, source, byteLength);
      for (let i = 0; i < to.length; i++) to[i] = to[i]! + from[i]!;
    },
    subtract(ring, target, source, byteLength) {
      const { to, from } = pair(ring, target, source, byteLength);
      for (let i = 0; i < to.length; i++) to[i] = to[i]! - from[i]!;
    },
    quantise(ring, first, count, quantisation: Quantisation) {
      const { factor, clip } = quantisation;
      const values = new Float32Array(memory.buffer, PLACES.values + 4 * first, count);
      const draws = new Uint32Array(memory.buffer, PLACES.draws + 4 * first, count);
      const out = elements(ring, PLACES.block + RING_BYTES[ring] * first, count);
      const tally = new Float64Array(memory.buffer, PLACES.tally, 3);
      // Two sums for values at even and odd places: float64 addition depends on its order, and lanes of SIMD are two.
      const squares = [0, 0];
      for (let i = 0; i < count; i++) {
        const x = values[i]! * factor;
        const clipped = Math.max(Math.min(x, clip), -clip);
        if (Math.abs(x) > clip) tally[0]! += 1;
        squares[i % 2]! += clipped * clipped;
        tally[2]! += values[i]! * 0;
        out[i] = toRing(ring, quantiseOne(values[i]!, draws[i]!, quantisation));
      }
      tally[1]! += squares[0]! + squares[1]!;
    },
  };
}
