/** Values to ring elements: the specification's numbers, what may never happen, and rounding that favours nobody. */
import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { fromRing, meanOf, quantisationOf, quantiseOne, toRing } from "./ring.ts";
import { largestStep, type Ring } from "./vector.ts";

const RINGS: Ring[] = ["u32", "u16"];
const NEVER_UP = 2 ** 32 - 1;

function quantisation(ring: Ring, members: number, { clip = 0.5, weight = 255, factor = 1 } = {}) {
  const largest = largestStep(ring, members);
  return quantisationOf({ largest }, { clip, scale: largest / clip }, weight, factor);
}

describe("u16 ring, 64 members, clip 0.5", () => {
  test.each([
    { says: "zero is zero", x: 0, ring: 0 },
    { says: "the clip is the top step", x: 0.5, ring: 511 }, // floor(32767 / 64), secure-aggregation.md §5
    { says: "beyond the clip saturates", x: 9, ring: 511 },
    { says: "negatives are two's complement", x: -0.5, ring: 65_025 },
    { says: "beyond the clip below saturates too", x: -9, ring: 65_025 },
    { says: "a smallest number is zero", x: 5e-324, ring: 0 },
    { says: "half weight is half the steps", x: 0.5, weight: 51, ring: 102 },
    { says: "a delta above the norm is scaled first", x: 2, factor: 0.25, ring: 511 },
  ])("$says", ({ x, ring, weight, factor }) => {
    expect(toRing("u16", quantiseOne(x, NEVER_UP, quantisation("u16", 64, { weight, factor })))).toBe(ring);
  });

  test("a value between two steps goes up when the draw says so", () => {
    const between = 0.25 / 511; // half a step of 0.5 / 511
    const rule = quantisation("u16", 64);
    expect(quantiseOne(between, 0, rule)).toBe(1);
    expect(quantiseOne(between, NEVER_UP, rule)).toBe(0);
    expect(quantiseOne(-between, 0, rule)).toBe(0);
    expect(quantiseOne(-between, NEVER_UP, rule)).toBe(-1);
  });
});

describe.each(RINGS)("in %s", (ring) => {
  test("element and integer are each other's", () => {
    for (const q of [0, 1, -1, 32_767, -32_768]) expect(fromRing(ring, toRing(ring, q))).toBe(q);
  });

  test("n_max honest members never wrap around, whatever their values, weights and draws", () => {
    const extreme = fc.oneof(fc.constantFrom(1, -1, 1e30, -1e30, 0, -0), fc.double({ min: -3, max: 3, noNaN: true }));
    const all = fc.record({
      members: fc.integer({ min: 3, max: 128 }),
      clip: fc.double({ min: 1e-12, max: 1e12, noNaN: true }),
      weight: fc.integer({ min: 1, max: 255 }),
      values: fc.array(extreme, { minLength: 1, maxLength: 4 }),
      draw: fc.constantFrom(0, 1, NEVER_UP),
    });
    fc.assert(
      fc.property(all, ({ members, clip, weight, values, draw }) => {
        const rule = quantisation(ring, members, { clip, weight });
        let [sum, element] = [0, 0];
        for (let i = 0; i < members; i++) {
          const q = quantiseOne(values[i % values.length]! * clip, draw, rule);
          sum += q;
          element = toRing(ring, element + q);
        }
        expect(fromRing(ring, element)).toBe(sum);
      }),
      { numRuns: 2000 },
    );
  });

  test("all at the clip and all at full weight make the mean the clip", () => {
    for (const members of [3, 5, 64, 128]) {
      const rule = quantisation(ring, members);
      const sum = members * quantiseOne(0.5, 0, rule);
      expect(meanOf(sum, rule.largest / 0.5, 255 * members)).toBeCloseTo(0.5, 12);
    }
  });

  test("rounding is unbiased over 10^6 draws", () => {
    const draws = words(1_000_000);
    const rule = quantisation(ring, 64);
    for (const fraction of [0.001, 0.25, 0.5, 0.875]) {
      for (const step of [3, -4]) {
        const x = ((step + fraction) / rule.largest) * 0.5;
        let ups = 0;
        for (const draw of draws) ups += quantiseOne(x, draw, rule) - step;
        // Five standard deviations of a mean of 10^6 Bernoulli draws; the draws are fixed, so that this passes always or never.
        const bound = 5 * Math.sqrt((fraction * (1 - fraction)) / draws.length);
        expect(Math.abs(ups / draws.length - fraction), `step ${step} + ${fraction}`).toBeLessThan(bound + 1e-6);
      }
    }
  });
});

test("the mean of uneven weights is the weighted mean", () => {
  const rule = (weight: number) => quantisation("u32", 3, { weight });
  const [a, b] = [quantiseOne(0.4, 0, rule(200)), quantiseOne(-0.1, 0, rule(50))];
  expect(meanOf(a + b, rule(255).largest / 0.5, 250)).toBeCloseTo((200 * 0.4 - 50 * 0.1) / 250, 8);
});

/** Fixed words that look random: SHA-256 of a counter. */
function words(count: number): Uint32Array {
  const out = new Uint8Array(count * 4);
  for (let at = 0; at < out.length; at += 32) out.set(createHash("sha256").update(String(at)).digest(), at);
  return new Uint32Array(out.buffer);
}
