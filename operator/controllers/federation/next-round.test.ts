import { describe, expect, test } from "vitest";
import { federation } from "../../api/testing/objects.ts";
import type { TallyRow } from "../tally.ts";
import { nextRound, type RoundsWorld } from "./next-round.ts";

const NOON = Date.UTC(2026, 0, 1, 12);
const MINUTE = 60_000;

const tally: TallyRow = {
  schema: 1,
  uid: "u",
  succeeded: 0,
  failed: 0,
  cancelled: 0,
  failuresInRow: 0,
  generationOfRow: 1,
};

type Rounds = NonNullable<Parameters<typeof federation>[0]>["spec"];

function next(spec: Rounds, row: Partial<TallyRow> = {}, world: Partial<RoundsWorld> = {}) {
  return nextRound(federation({ spec: spec ?? {} }).spec, {
    nowMs: NOON,
    generation: 1,
    created: 2,
    tally: { ...tally, ...row },
    ...world,
  });
}

describe("the next round", () => {
  test("begins when the last one has ended", () => {
    expect(next({ rounds: { count: 3 } })).toEqual({ kind: "due" });
  });

  test("is made by others without spec.rounds", () => {
    expect(next({})).toEqual({ kind: "byHand" });
  });

  test("waits for whatever round has not ended", () => {
    expect(next({ rounds: { count: 3 } }, {}, { current: "by-hand" })).toEqual({ kind: "waiting" });
  });

  test("does not begin while the federation is suspended, whatever else holds", () => {
    for (const row of [{}, { lastTrainLoss: 0 }, { failuresInRow: 9 }])
      expect(next({ suspend: true, rounds: { count: 2 } }, row)).toEqual({ kind: "suspended" });
  });

  test.each([
    { says: "a round that ended just now", endedMs: NOON, kind: "pausing" },
    { says: "a pause that ends in a millisecond", endedMs: NOON - 10 * MINUTE + 1, kind: "pausing" },
    { says: "a pause that has just ended", endedMs: NOON - 10 * MINUTE, kind: "due" },
    { says: "no round before", endedMs: undefined, kind: "due" },
  ])("keeps the interval after $says", ({ endedMs, kind }) => {
    const row = endedMs === undefined ? {} : { lastEndedMs: endedMs };
    expect(next({ rounds: { count: 3, interval: "10m" } }, row).kind).toBe(kind);
  });

  test("says until when it pauses", () => {
    expect(next({ rounds: { count: 3, interval: "10m" } }, { lastEndedMs: NOON })).toEqual({
      kind: "pausing",
      untilMs: NOON + 10 * MINUTE,
    });
  });
});

describe("no round follows", () => {
  test("once as many were created as there are to be, whatever became of them", () => {
    expect(next({ rounds: { count: 2 } }, { failed: 1, cancelled: 1 })).toEqual({
      kind: "ended",
      reason: "RoundsDone",
      message: "all 2 rounds have run",
    });
  });

  test("but it goes on when the count is raised", () => {
    expect(next({ rounds: { count: 4 } }, {}, { created: 3 }).kind).toBe("due");
  });

  const stopping = { rounds: { count: 9, stopWhen: { metric: "trainLoss" as const, atMost: "1.25" } } };
  test.each([
    { says: "above what was asked", loss: 1.2501, kind: "due" },
    { says: "just what was asked", loss: 1.25, kind: "ended" },
    { says: "below", loss: 0.3, kind: "ended" },
    { says: "not known, with fewer than three contributors", loss: undefined, kind: "due" },
  ])("when the last loss is $says: $kind", ({ loss, kind }) => {
    expect(next(stopping, loss === undefined ? {} : { lastTrainLoss: loss }).kind).toBe(kind);
  });

  test("and the sentence has both numbers", () => {
    expect(next(stopping, { lastTrainLoss: 1.234_56 })).toEqual({
      kind: "ended",
      reason: "StopConditionMet",
      message: "trainLoss is 1.2346, at most 1.25 was wanted; no round follows the 2 created",
    });
  });
});

describe("rounds that only fail", () => {
  const lastFailure = { round: "notes-r2", reason: "QuorumLost", message: "1 of 4 can still contribute" };
  const failing = { failuresInRow: 3, failed: 3, lastFailure };

  test("stop after maxFailures in a row, with the last one's reason and the way out", () => {
    expect(next({ rounds: { count: 9 } }, failing)).toEqual({
      kind: "failing",
      message:
        "3 rounds in a row have failed; mend the cause, then change the Federation's spec or let a round made by hand succeed, last notes-r2 (QuorumLost: 1 of 4 can still contribute)",
    });
  });

  test("go on below it", () => {
    expect(next({ rounds: { count: 9, maxFailures: 4 } }, failing).kind).toBe("due");
  });

  test("may be tried again by whoever changes the Federation", () => {
    expect(next({ rounds: { count: 9 } }, failing, { generation: 2 }).kind).toBe("due");
  });

  test("are still what a person must see when the count is used up, or another round runs", () => {
    expect(next({ rounds: { count: 2 } }, failing).kind).toBe("failing");
    expect(next({ rounds: { count: 9 } }, failing, { current: "by-hand" }).kind).toBe("failing");
  });

  test("do not stop what nobody asked the federation to do", () => {
    expect(next({}, failing).kind).toBe("byHand");
  });
});
