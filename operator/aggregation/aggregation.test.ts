/** The arithmetic of trusted aggregation against reference numbers, its checks, and one test per refusal. */
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { addMean } from "./candidate.ts";
import { clipFactor, isClipped, scale, squaredNorm } from "./clip.ts";
import { checkTensors, deltaSentence, subtract } from "./delta.ts";
import { countNonFinite } from "./finite.ts";
import { addWeighted } from "./rules/mean.ts";
import { weightOf } from "./weight.ts";

const vectors: { input: { first_row: number[]; last_row: number[] }; rules: Record<string, number[]> } = JSON.parse(
  readFileSync(new URL("../../test/vectors/aggregators.json", import.meta.url), "utf8"),
);

/** The generator that the vector file describes: 9 honest rows and 2 outliers. */
function referenceRows(): number[][] {
  let state = 42;
  const draw = () => {
    state = (Math.imul(1_664_525, state) + 1_013_904_223) >>> 0;
    return state / 2 ** 32 - 0.5;
  };
  const rows = Array.from({ length: 11 }, () => Array.from({ length: 8 }, draw));
  return rows.map((row, i) => (i < 9 ? row : row.map((x) => x * 20 + 5)));
}

function meanOf(rows: Float32Array[], weight: number): Float32Array {
  const sum = new Float64Array(rows[0]!.length);
  for (const row of rows) addWeighted(sum, 0, row, weight);
  const mean = new Float32Array(sum.length);
  addMean(new Float32Array(sum.length), { sum, at: 0, totalWeight: weight * rows.length }, mean);
  return mean;
}

function expectClose(actual: Float32Array, expected: number[]): void {
  expect(actual).toHaveLength(expected.length);
  // Inputs are rounded to float32 on their way in: 2^-24 of the largest, about 15.
  for (const [i, value] of expected.entries()) expect(actual[i], `value ${i}`).toBeCloseTo(value, 5);
}

describe("reference numbers", () => {
  test("the generator gives the rows that the file quotes", () => {
    expect(referenceRows()[0]).toEqual(vectors.input.first_row);
    expect(referenceRows()[10]).toEqual(vectors.input.last_row);
  });

  test.each([1, 7, 255])("the mean of equal weights %i is the average", (weight) => {
    const rows = referenceRows().map((row) => Float32Array.from(row));
    expectClose(meanOf(rows, weight), vectors.rules.Average!);
  });

  test("clipping at norm 1, then the mean", () => {
    const rows = referenceRows().map((row) => {
      const values = Float32Array.from(row);
      scale(values, clipFactor(squaredNorm(values), 1));
      return values;
    });
    expectClose(meanOf(rows, 255), vectors.rules.Clipping_c1_then_Average!);
  });
});

describe("weights", () => {
  test.each([
    { says: "no examples still count a little", examples: 0, cap: 1000, weight: 1 },
    { says: "half the cap is half the weight, rounded", examples: 500, cap: 1000, weight: 128 },
    { says: "the cap is full weight", examples: 1000, cap: 1000, weight: 255 },
    { says: "more than the cap is no more", examples: 1_000_000, cap: 1000, weight: 255 },
  ])("$says", ({ examples, cap, weight }) => expect(weightOf("examples", examples, cap)).toBe(weight));
  test("uniform weighting looks at nothing", () => expect(weightOf("uniform", 3, 1000)).toBe(255));
});

describe("the running sum", () => {
  test("equals weight times value at every length from 0 to 67, wherever the chunk begins", () => {
    for (let length = 0; length <= 67; length++) {
      const values = Float32Array.from({ length }, (_, i) => Math.fround(Math.sin(i + length)));
      const sum = new Float64Array(length + 5).fill(0.25);
      addWeighted(sum, 3, values, 255);
      const expected = Float64Array.from(sum, (_, i) =>
        i >= 3 && i < 3 + length ? 0.25 + 255 * values[i - 3]! : 0.25,
      );
      expect(sum, `length ${length}`).toEqual(expected);
    }
  });

  test("in whatever order sites arrive, the candidate is the same to one step of float32", () => {
    const float = fc.float({ noNaN: true, noDefaultInfinity: true, min: -100, max: 100 });
    const site = fc.record({ weight: fc.integer({ min: 1, max: 255 }), value: float });
    fc.assert(
      fc.property(fc.array(site, { minLength: 1, maxLength: 20 }), float, (sites, parent) => {
        const candidate = (order: typeof sites) => {
          const sum = new Float64Array(1);
          for (const { weight, value } of order) addWeighted(sum, 0, Float32Array.of(value), weight);
          const totalWeight = order.reduce((total, { weight }) => total + weight, 0);
          const out = new Float32Array(1);
          addMean(Float32Array.of(parent), { sum, at: 0, totalWeight }, out);
          return out[0]!;
        };
        const [forward, backward] = [candidate(sites), candidate([...sites].reverse())];
        // A tie of float32 rounding may still fall either way once in 2^29; then the neighbours differ by one step.
        expect(Math.abs(forward - backward)).toBeLessThanOrEqual(Math.abs(forward) * 2 ** -23);
      }),
    );
  });

  test("refuses a chunk that runs over its end, and adds nothing of it", () => {
    const sum = new Float64Array(4);
    expect(() => addWeighted(sum, 2, Float32Array.of(1, 2, 3), 1)).toThrow(RangeError);
    expect(sum).toEqual(new Float64Array(4));
  });
});

describe("delta", () => {
  test("is the difference, rounded to float32, and may be written over the trained values", () => {
    const trained = Float32Array.of(1, 0.1, -2);
    expect(subtract(trained, Float32Array.of(0.5, 0.3, -2), trained)).toBe(0);
    expect(trained).toEqual(Float32Array.of(0.5, Math.fround(0.1) - Math.fround(0.3), 0));
  });

  test.each([
    { says: "NaN from the trainer", trained: [Number.NaN, 1], parent: [0, 0], count: 1 },
    {
      says: "infinities of both signs",
      trained: [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY],
      parent: [0, 0],
      count: 2,
    },
    {
      says: "two finite values whose difference float32 cannot hold",
      trained: [3e38, 1],
      parent: [-3e38, 0],
      count: 1,
    },
  ])("counts $says", ({ trained, parent, count }) => {
    expect(subtract(Float32Array.from(trained), Float32Array.from(parent), new Float32Array(2))).toBe(count);
  });

  test("counting non-finite values equals looking at each", () => {
    fc.assert(
      fc.property(fc.float32Array(), (values) => {
        expect(countNonFinite(values)).toBe(values.filter((value) => !Number.isFinite(value)).length);
      }),
    );
  });

  const table = [
    { name: "a.lora_A.weight", shape: [4, 8] },
    { name: "a.lora_B.weight", shape: [8, 4] },
  ];
  test("a file with the table's tensors in another order is accepted", () => {
    expect(checkTensors(table, [...table].reverse())).toBeUndefined();
  });
  test.each([
    { held: table.slice(1), says: "the trained adapter lacks tensor a.lora_A.weight" },
    {
      held: [...table, { name: "b", shape: [1, 1] }],
      says: "the trained adapter has a tensor that the plan does not know: b",
    },
    {
      held: [{ name: "a.lora_A.weight", shape: [16, 8] }, table[1]!],
      says: "tensor a.lora_A.weight has shape 16×8 and the plan says 4×8",
    },
    {
      held: [{ name: "a.lora_A.weight", shape: [4] }, table[1]!],
      says: "tensor a.lora_A.weight has shape 4 and the plan says 4×8",
    },
  ])("$says", ({ held, says }) => expect(deltaSentence(checkTensors(table, held)!)).toBe(says));
  test("a non-finite value has a sentence", () => {
    expect(deltaSentence({ code: "NonFinite", tensor: "t", count: 3 })).toBe(
      "delta has 3 non-finite values in tensor t",
    );
  });
});

describe("clipping", () => {
  test.each([
    { says: "a delta of zeros stays", values: [0, 0], factor: 1 },
    { says: "a delta at the norm stays", values: [3, 4], factor: 1 },
    { says: "a longer one is shortened to the norm", values: [30, 40], factor: 0.1 },
  ])("$says", ({ values, factor }) => expect(clipFactor(squaredNorm(Float32Array.from(values)), 5)).toBe(factor));

  test("what was clipped counts as clipped in spite of float32, and what was not does not", () => {
    fc.assert(
      fc.property(fc.float32Array({ noNaN: true, noDefaultInfinity: true, minLength: 1 }), (values) => {
        const clipped = values.slice();
        scale(clipped, clipFactor(squaredNorm(values), 0.5));
        expect(isClipped(squaredNorm(clipped), 0.5)).toBe(true);
      }),
    );
    expect(isClipped(squaredNorm(Float32Array.of(0.3, 0.41)), 0.5)).toBe(false);
  });
});

describe("candidate", () => {
  test("is parent plus the weighted mean", () => {
    const sum = new Float64Array(3);
    addWeighted(sum, 0, Float32Array.of(1, 2, 3), 1);
    addWeighted(sum, 0, Float32Array.of(5, 6, 7), 3);
    const parent = Float32Array.of(10, 20);
    expect(addMean(parent, { sum, at: 1, totalWeight: 4 }, parent)).toBe(0);
    expect(parent).toEqual(Float32Array.of(15, 26));
  });
  test("an overflow is counted", () => {
    const sum = Float64Array.of(3e38);
    expect(addMean(Float32Array.of(3e38), { sum, at: 0, totalWeight: 1 }, new Float32Array(1))).toBe(1);
  });
  test("refuses a total weight of zero", () => {
    const sum = new Float64Array(1);
    expect(() => addMean(new Float32Array(1), { sum, at: 0, totalWeight: 0 }, new Float32Array(1))).toThrow(RangeError);
  });
});
