import { expect, test } from "vitest";
import { aggregationStep } from "./follow.ts";

const succeeded = {
  type: "Succeeded",
  status: "Unknown" as const,
  reason: "Aggregating",
  message: "3 of 4 members have shared their keys",
  lastTransitionTime: "2026-01-01T00:00:00Z",
};

test("while contributions are added, the step is what the operator says it waits for", () => {
  expect(aggregationStep({ observedGeneration: 1, phase: "Aggregating", conditions: [succeeded] })).toBe(
    "3 of 4 members have shared their keys",
  );
});

test("no other phase has a step, nor has a round whose status has no conditions yet", () => {
  expect(aggregationStep({ observedGeneration: 1, phase: "Training", conditions: [succeeded] })).toBeUndefined();
  expect(aggregationStep({ observedGeneration: 1, phase: "Aggregating" })).toBeUndefined();
});
