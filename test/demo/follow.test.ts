import { expect, test } from "vitest";
import type { Condition } from "../../operator/api/conditions.ts";
import { aggregationStep } from "./follow.ts";

const aggregated: Condition = {
  type: "Aggregated",
  status: "Unknown",
  reason: "Masking",
  message: "masked deltas are being uploaded",
  lastTransitionTime: "2026-01-01T00:00:00Z",
};

test("while contributions are added, the step is what the operator says", () => {
  const status = { observedGeneration: 1, phase: "Aggregating" as const, conditions: [aggregated] };
  expect(aggregationStep(status)).toBe("masked deltas are being uploaded");
});

test("a round whose candidate is made, and one that has not begun to aggregate, have no step", () => {
  const made: Condition = { ...aggregated, status: "True", reason: "Aggregated", message: "sha256:00" };
  expect(aggregationStep({ observedGeneration: 1, phase: "Publishing", conditions: [made] })).toBeUndefined();
  expect(aggregationStep({ observedGeneration: 1, phase: "Training" })).toBeUndefined();
});
