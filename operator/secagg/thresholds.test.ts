import { expect, test } from "vitest";
import { thresholdOf } from "./thresholds.ts";

// secure-aggregation.md §4, the table.
test.each([
  [3, 3],
  [4, 3],
  [5, 4],
  [8, 6],
  [10, 7],
  [16, 11],
  [20, 14],
  [32, 22],
  [50, 34],
  [64, 43],
  [100, 67],
  [128, 86],
])("a cohort of %i needs %i", (n, t) => expect(thresholdOf(n)).toBe(t));

test("no size lets two disjoint sets of honest members reach the threshold", () => {
  for (let n = 3; n <= 128; n++) expect(2 * thresholdOf(n), `n = ${n}`).toBeGreaterThan(n + 1);
});

test.each([0, 2, 129, 4.5, Number.NaN])("%d is no size of a cohort", (n) =>
  expect(() => thresholdOf(n)).toThrow(RangeError),
);
