/** Every kernel against the plain loops, at lengths that leave odd tails. */
import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import type { Ring } from "../vector.ts";
import { clearTally, type Kernel, PLACES, readTally } from "./kernel.ts";
import { scalarKernel } from "./scalar.ts";
import { simdKernel } from "./simd.ts";

const RINGS: Ring[] = ["u32", "u16"];
const MODULUS = { u32: 2 ** 32, u16: 2 ** 16 };
const WIDTH = { u32: 4, u16: 2 };

describe.each([scalarKernel, simdKernel].map((make) => ({ name: make().name, make })))("$name", ({ make }) => {
  test.each(RINGS)("adds and subtracts mod 2^k in %s at every length from 0 to 67", (ring) => {
    const kernel = make();
    for (let length = 0; length <= 67; length++) {
      const bytes = length * WIDTH[ring];
      fillRandom(kernel, PLACES.other, bytes);
      fillRandom(kernel, PLACES.block, bytes + 8);
      const [a, b] = [read(kernel, ring, PLACES.block, length), read(kernel, ring, PLACES.other, length)];
      const behind = kernel.memory.slice(bytes, bytes + 8);
      kernel.add(ring, PLACES.block, PLACES.other, bytes);
      const expected = a.map((element, i) => (element + b[i]!) % MODULUS[ring]);
      expect(read(kernel, ring, PLACES.block, length), `length ${length}`).toEqual(expected);
      kernel.subtract(ring, PLACES.block, PLACES.other, bytes);
      expect(read(kernel, ring, PLACES.block, length), `length ${length}`).toEqual(a);
      expect(kernel.memory.slice(bytes, bytes + 8), "what lies behind stays").toEqual(behind);
    }
  });
});

describe.each(RINGS)("simd quantises in %s as scalar does, bit by bit", (ring) => {
  const largest = ring === "u32" ? 429_496_729 : 6553;

  test.each([
    { says: "well inside the clip", spread: 0.5, factor: 1 },
    { says: "mostly beyond the clip", spread: 20, factor: 1 },
    { says: "scaled to the norm", spread: 1, factor: 0.123456789 },
    { says: "tiny", spread: 1e-30, factor: 1 },
  ])("values $says, 1000 random lengths and places", ({ spread, factor }) => {
    const [scalar, simd] = [scalarKernel(), simdKernel()];
    for (let repeat = 0; repeat < 1000; repeat++) {
      const first = randomBelow(9);
      const count = randomBelow(70);
      const values = Float32Array.from({ length: first + count }, () => (Math.random() - 0.5) * spread);
      const quantisation = { factor, clip: 0.01, gain: (Math.random() * largest) / 0.01, largest };
      for (const kernel of [scalar, simd]) kernel.memory.fill(0, 0, 1024);
      sameInputs([scalar, simd], values);
      for (const kernel of [scalar, simd]) kernel.quantise(ring, first, count, quantisation);
      expect(readTally(simd), `${first} + ${count}`).toEqual(readTally(scalar));
      expect(simd.memory.slice(0, 1024), `${first} + ${count}`).toEqual(scalar.memory.slice(0, 1024));
    }
  });

  test("values at the edges", () => {
    const clip = 0.5;
    const below = Math.fround(0.49999997);
    const edges = [0, -0, 0.5, -0.5, below, -below, 0.50000006, -0.50000006, 1e-45, -1e-45, 3.4e38, -3.4e38, 1e-38];
    for (const draw of [0, 1, 2 ** 31, 2 ** 32 - 1]) {
      for (const length of [edges.length, edges.length - 1, 4, 3]) {
        const [scalar, simd] = [scalarKernel(), simdKernel()];
        for (const kernel of [scalar, simd]) {
          sameInputs([kernel], Float32Array.from(edges.slice(0, length)));
          new Uint32Array(kernel.memory.buffer, PLACES.draws, length).fill(draw);
          kernel.quantise(ring, 0, length, { factor: 1, clip, gain: largest / clip, largest });
        }
        expect(readTally(simd), `draw ${draw}`).toEqual(readTally(scalar));
        expect(simd.memory.slice(0, 64), `draw ${draw}`).toEqual(scalar.memory.slice(0, 64));
      }
    }
  });

  test("and both go on with their tally until it is cleared", () => {
    for (const kernel of [scalarKernel(), simdKernel()]) {
      sameInputs([kernel], Float32Array.of(1, 1, 1, 1, 1, 0));
      for (let i = 0; i < 2; i++) kernel.quantise(ring, 0, 6, { factor: 1, clip: 0.5, gain: 1, largest });
      expect(readTally(kernel)).toEqual({ saturated: 10, squares: 2.5, trace: 0 });
      clearTally(kernel);
      expect(readTally(kernel)).toEqual({ saturated: 0, squares: 0, trace: 0 });
    }
  });

  test.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])("and both see %d at any place", (bad) => {
    for (const kernel of [scalarKernel(), simdKernel()]) {
      for (let place = 0; place < 7; place++) {
        clearTally(kernel);
        const values = new Float32Array(7).fill(0.1);
        values[place] = bad;
        sameInputs([kernel], values);
        kernel.quantise(ring, 0, 7, { factor: 1, clip: 0.5, gain: 1, largest });
        expect(readTally(kernel).trace, `${kernel.name}, place ${place}`).toBeNaN();
      }
    }
  });
});

function sameInputs(kernels: Kernel[], values: Float32Array): void {
  const draws = randomBytes(4 * values.length);
  for (const { memory } of kernels) {
    memory.set(new Uint8Array(values.buffer), PLACES.values);
    memory.set(draws, PLACES.draws);
  }
}

function read({ memory }: Kernel, ring: Ring, at: number, length: number): number[] {
  const bytes = memory.slice(at, at + length * WIDTH[ring]).buffer;
  return [...(ring === "u32" ? new Uint32Array(bytes) : new Uint16Array(bytes))];
}

function fillRandom({ memory }: Kernel, at: number, length: number): void {
  memory.set(randomBytes(length), at);
}

function randomBelow(limit: number): number {
  return Math.floor(Math.random() * limit);
}
