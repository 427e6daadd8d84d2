import { describe, expect, test } from "vitest";
import { type FederationWorld, statusOf } from "./status.ts";

const base: FederationWorld = {
  nowMs: Date.UTC(2026, 0, 1),
  generation: 3,
  minimum: 2,
  candidates: ["ann", "ben", "cy"].map((name) => ({ name, enrolled: true, suspended: false })),
  connected: new Set(["ann", "ben"]),
  initial: { kind: "ready" },
  active: {
    version: 4,
    name: "fed-v4",
    digest: "sha256:d",
    adapterDigest: "sha256:a",
    reference: "r@sha256:d",
    byteLength: 1,
  },
  tally: { succeeded: 4, failed: 1, cancelled: 2 },
  next: { kind: "due" },
};

describe("Ready says whether rounds can start", () => {
  test.each([
    { says: "it can", world: {}, status: "True", reason: "Ready", beside: undefined },
    {
      says: "version 0 in the making",
      world: { initial: { kind: "making" } },
      status: "Unknown",
      reason: "Initialising",
      beside: "Reconciling",
    },
    {
      says: "version 0 impossible",
      world: { initial: { kind: "failed", problem: "no config.json" } },
      status: "False",
      reason: "InitialiseFailed",
      beside: "Stalled",
    },
    {
      says: "too few are connected",
      world: { connected: new Set(["ann"]) },
      status: "False",
      reason: "TooFewParticipants",
      beside: undefined,
    },
    {
      says: "too few are enrolled",
      world: { candidates: base.candidates.map((c) => ({ ...c, enrolled: c.name === "ann" })) },
      status: "False",
      reason: "TooFewParticipants",
      beside: undefined,
    },
    {
      says: "all rounds have run, and nobody needs to be connected",
      world: {
        connected: new Set<string>(),
        next: { kind: "ended", reason: "RoundsDone", message: "all 5 rounds have run" },
      },
      status: "True",
      reason: "RoundsDone",
      beside: undefined,
    },
    {
      says: "the last round was good enough",
      world: { next: { kind: "ended", reason: "StopConditionMet", message: "trainLoss is 1.0" } },
      status: "True",
      reason: "StopConditionMet",
      beside: undefined,
    },
    {
      says: "round after round fails, and a person has to act",
      world: { next: { kind: "failing", message: "3 rounds in a row have failed" } },
      status: "False",
      reason: "RoundsFailing",
      beside: "Stalled",
    },
    {
      says: "suspended, which is what somebody wants and no fault",
      world: { next: { kind: "suspended" } },
      status: "False",
      reason: "Suspended",
      beside: undefined,
    },
    {
      says: "suspended, whatever else is missing",
      world: { next: { kind: "suspended" }, initial: { kind: "making" }, connected: new Set<string>() },
      status: "False",
      reason: "Suspended",
      beside: undefined,
    },
    {
      says: "between two rounds it can, and says when",
      world: { next: { kind: "pausing", untilMs: Date.UTC(2026, 0, 2) } },
      status: "True",
      reason: "Ready",
      beside: undefined,
    },
  ] as const)("$says", ({ world, status, reason, beside }) => {
    const { conditions } = statusOf({ ...base, ...(world as Partial<FederationWorld>) }, []);
    expect(conditions?.find((c) => c.type === "Ready")).toMatchObject({ status, reason, observedGeneration: 3 });
    const present = conditions?.map((c) => c.type).filter((type) => type === "Reconciling" || type === "Stalled");
    expect(present).toEqual(beside ? [beside] : []);
  });

  test("the active adapter is what the next round starts from", () => {
    expect(statusOf(base, []).activeAdapter).toEqual({
      version: 4,
      name: "fed-v4",
      digest: "sha256:d",
      reference: "r@sha256:d",
    });
  });
});
