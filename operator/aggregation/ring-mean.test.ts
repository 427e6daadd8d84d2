import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { addRingMean, meanDivisor } from "./ring-mean.ts";

describe("the mean of a ring sum", () => {
  test.each([
    { says: "one cohort at full weight", sums: [[512, -1024]], scale: 1024, weight: 255, added: [0.5, -1] },
    { says: "one cohort at half weight", sums: [[512, -1024]], scale: 1024, weight: 127.5, added: [1, -2] },
    {
      says: "cohorts together",
      sums: [
        [512, 0],
        [512, -2048],
      ],
      scale: 1024,
      weight: 510,
      added: [0.5, -1],
    },
  ])("$says", ({ sums, scale, weight, added }) => {
    const parent = Float32Array.of(10, 20);
    const cohorts = sums.map((sum) => Int16Array.from(sum));
    expect(addRingMean(parent, { sums: cohorts, divisor: meanDivisor(scale, weight) }, parent)).toBe(0);
    expect(parent).toEqual(Float32Array.of(10 + added[0]!, 20 + added[1]!));
  });

  test("sums of many cohorts do not wrap where each alone nearly does", () => {
    const sums = Array.from({ length: 64 }, () => Int32Array.of(2 ** 31 - 1, -(2 ** 31)));
    const out = new Float32Array(2);
    addRingMean(new Float32Array(2), { sums, divisor: meanDivisor(1, 255) }, out);
    expect(out).toEqual(Float32Array.of(64 * (2 ** 31 - 1), -64 * 2 ** 31));
  });

  test("reading bytes as signed is the centred lift, whatever the element", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 32 - 1 }), (element) => {
        const signed = new Int32Array(Uint32Array.of(element).buffer);
        const lifted = element < 2 ** 31 ? element : element - 2 ** 32;
        const out = new Float32Array(1);
        addRingMean(new Float32Array(1), { sums: [signed], divisor: meanDivisor(1, 255) }, out);
        expect(out[0]).toBe(Math.fround(lifted));
      }),
    );
  });

  test("an overflow of float32 is counted", () => {
    const sums = [Int32Array.of(2 ** 30)];
    const divisor = meanDivisor(1e-30, 255);
    expect(addRingMean(Float32Array.of(3e38), { sums, divisor }, new Float32Array(1))).toBe(1);
  });

  test.each([
    { scale: 0, weight: 255 },
    { scale: 1, weight: 0 },
    { scale: Number.NaN, weight: 1 },
    { scale: 1e308, weight: 1e9 },
  ])("refuses to divide by scale $scale at weight $weight", ({ scale, weight }) =>
    expect(() => meanDivisor(scale, weight)).toThrow(RangeError),
  );

  test("refuses chunks of different lengths, and no chunk at all", () => {
    const out = new Float32Array(2);
    expect(() => addRingMean(out, { sums: [new Int32Array(3)], divisor: 1 }, out)).toThrow(RangeError);
    expect(() => addRingMean(out, { sums: [], divisor: 1 }, out)).toThrow(RangeError);
  });
});
