/** What lies where, and what rides beside the tensors. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Plan } from "../round/plan.ts";
import { decodeTail, encodeTail, largestStep, PLAN_METRICS, planScales, type Ring, vectorLayout } from "./vector.ts";

const RINGS: Ring[] = ["u32", "u16"];

/** The part of a plan that a layout follows from. */
function layoutOf(ring: Ring, largestCohort = 8, tensors = [2, 3]) {
  const plan = {
    tensors: tensors.map((rows, i) => ({ name: `t${i}`, shape: [rows, 5] })),
    secure: {
      ring,
      largestCohort,
      scales: planScales(
        ring,
        largestCohort,
        tensors.map(() => 0.5),
      ),
      metrics: PLAN_METRICS,
    },
  };
  return vectorLayout(plan as unknown as Plan);
}

describe("the layout", () => {
  test("of two tensors has the weight behind them and two elements of 24 bits per metric in u32", () => {
    const layout = layoutOf("u32");
    expect(layout.tensors.map(({ at, length }) => [at, length])).toEqual([
      [0, 10],
      [10, 15],
    ]);
    expect(layout.weightAt).toBe(25);
    expect(layout.metrics.map(({ at }) => at)).toEqual([26, 28, 30, 34]);
    expect(layout).toMatchObject({ elements: 38, byteLength: 152 });
  });

  test("has six elements of 8 bits per metric in u16", () => {
    const layout = layoutOf("u16");
    expect(layout.metrics.map(({ at }) => at)).toEqual([26, 32, 38, 50]);
    expect(layout).toMatchObject({ elements: 62, byteLength: 124 });
  });

  test("needs one scale per tensor", () => {
    const plan = { tensors: [{ name: "a", shape: [1, 1] }], secure: { ring: "u32", largestCohort: 3, scales: [] } };
    expect(() => vectorLayout(plan as unknown as Plan)).toThrow("0 scales for 1 tensors");
  });
});

test("a vector is at most as long as one key may mask", () => {
  expect(layoutOf("u32", 8, [2 ** 31]).byteLength).toBeLessThan(2 ** 36);
  expect(() => layoutOf("u32", 8, [2 ** 31, 2 ** 31])).toThrow("a vector of");
});

describe("scales", () => {
  test.each<{ ring: Ring; n: number; largest: number }>([
    { ring: "u16", n: 64, largest: 511 },
    { ring: "u16", n: 3, largest: 10_922 },
    { ring: "u32", n: 128, largest: 16_777_215 },
    { ring: "u32", n: 5, largest: 429_496_729 },
  ])("$ring with $n members has $largest steps on each side", ({ ring, n, largest }) => {
    expect(largestStep(ring, n)).toBe(largest);
    expect(planScales(ring, n, [0.5])).toEqual([{ clip: "0.5", scale: String(largest * 2) }]);
  });

  test("are decimals that read back as the same number, also where JavaScript writes an exponent", () => {
    const clips = [1e-7, 1.2345678901234e-9, 3e21, 1];
    planScales("u32", 3, clips).forEach(({ clip, scale }, i) => {
      expect(Number(clip)).toBe(clips[i]);
      expect(Number(scale)).toBe(largestStep("u32", 3) / clips[i]!);
      for (const text of [clip, scale]) expect(text).toMatch(/^(0|[1-9][0-9]*)(\.[0-9]+)?(e-?[0-9]+)?$/);
    });
  });

  test.each([0, -1, Number.NaN, Number.POSITIVE_INFINITY])("of clip %d do not exist", (clip) => {
    expect(() => planScales("u32", 3, [clip])).toThrow(RangeError);
  });
});

describe.each(RINGS)("weight and metrics in %s", (ring) => {
  const layout = layoutOf(ring);
  const values = { tokens: 7, lossTokens: 2.5, saturated: [0, 3], energy: [0.25, 31.875] };

  test("come back as they went in", () => {
    const tail = decodeTail(layout, encodeTail(layout, 200, values));
    expect(tail.weight).toBe(200);
    expect(Object.fromEntries(tail.metrics)).toEqual({ tokens: 7, lossTokens: 2.5 });
    expect(Object.fromEntries(tail.perTensor)).toEqual({ saturated: [0, 3], energy: [0.25, 31.875] });
  });

  test("of 128 members at the limit add up without a carry between limbs", () => {
    const most = { tokens: 2 ** 60, lossTokens: 2 ** 60, saturated: [2 ** 60, 1], energy: [2 ** 60, 0] };
    const one = encodeTail(layout, 255, most);
    const Elements = ring === "u32" ? Uint32Array : Uint16Array;
    const sum = new Elements(one.buffer as ArrayBuffer).map((element) => element * 128);
    const tail = decodeTail(layout, new Uint8Array(sum.buffer));
    expect(tail.weight).toBe(255 * 128);
    expect(tail.metrics.get("tokens")).toBe(Number(128n * (2n ** 48n - 1n)));
    expect(tail.perTensor.get("saturated")).toEqual([Number(128n * (2n ** 48n - 1n)), 128]);
  });

  test("of any members add up to the sum of their scaled values", () => {
    const member = fc.record({
      weight: fc.integer({ min: 1, max: 255 }),
      tokens: fc.integer({ min: 0, max: 2 ** 40 }),
    });
    fc.assert(
      fc.property(fc.array(member, { minLength: 1, maxLength: 128 }), (members) => {
        const Elements = ring === "u32" ? Uint32Array : Uint16Array;
        const sum = new Elements(layout.elements - layout.weightAt);
        for (const { weight, tokens } of members) {
          const tail = encodeTail(layout, weight, { ...values, tokens });
          new Elements(tail.buffer as ArrayBuffer).forEach((element, i) => {
            sum[i]! += element;
          });
        }
        const tail = decodeTail(layout, new Uint8Array(sum.buffer));
        expect(tail.weight).toBe(members.reduce((total, { weight }) => total + weight, 0));
        expect(tail.metrics.get("tokens")).toBe(members.reduce((total, { tokens }) => total + tokens, 0));
      }),
    );
  });

  test.each([
    { says: "no weight", weight: 0, metrics: values },
    { says: "half a weight", weight: 0.5, metrics: values },
    { says: "more than full weight", weight: 256, metrics: values },
    { says: "a metric that is missing", weight: 1, metrics: { ...values, tokens: [] } },
    { says: "a value per tensor too few", weight: 1, metrics: { ...values, energy: [1] } },
    { says: "a negative count", weight: 1, metrics: { ...values, tokens: -1 } },
    { says: "a loss that is not a number", weight: 1, metrics: { ...values, lossTokens: Number.NaN } },
  ])("refuse $says", ({ weight, metrics }) => {
    expect(() => encodeTail(layout, weight, metrics)).toThrow(RangeError);
  });
});
