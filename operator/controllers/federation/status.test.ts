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
  rounds: { succeeded: 4, failed: 1, cancelled: 0, done: false },
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
      world: { connected: new Set<string>(), rounds: { succeeded: 5, failed: 0, cancelled: 0, done: true } },
      status: "True",
      reason: "RoundsDone",
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
