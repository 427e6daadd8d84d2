import { expect, test, vi } from "vitest";
import type { Condition } from "../../operator/api/conditions.ts";
import type { FederationRound } from "../../operator/api/federation-round.ts";
import { aggregationStep, followRounds } from "./follow.ts";

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

test("a site whose Job is gone keeps the last loss that was seen of it", async () => {
  const looks = [
    { phase: "Training", state: "Training", loss: "2.345" },
    { phase: "Succeeded", state: "Contributed", loss: undefined },
  ];
  let look = -1;
  const rounds = async () => {
    const { phase, state } = looks[++look]!;
    const participants = [{ name: "ann", state, progress: "20/20", job: "r1-ann-1", since: "2026-01-01T00:00:00Z" }];
    return [{ metadata: { name: "r1" }, status: { phase, participants } } as unknown as FederationRound];
  };
  const written = vi.spyOn(process.stdout, "write").mockReturnValue(true);
  try {
    await followRounds({ rounds, trainingLoss: async () => looks[look]!.loss }, 1, 60_000);
    expect(written.mock.calls.join("")).toMatch(/ann +Contributed +20\/20 loss 2\.345/);
  } finally {
    written.mockRestore();
  }
});
