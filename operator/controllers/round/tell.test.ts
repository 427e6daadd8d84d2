import { describe, expect, test } from "vitest";
import type { FederationRound } from "../../api/federation-round.ts";
import type { EventNote } from "../../kube/events.ts";
import { enter, type RoundRecord } from "../../round/record.ts";
import { secureAt } from "../../round/testing/cohorts.ts";
import { participant, pending, T0, training } from "../../round/testing/worlds.ts";
import type { Context } from "../context.ts";
import { statusOf } from "./status.ts";
import { asTold, tell } from "./tell.ts";

/** The events of a change, as a person reads them. */
function told(before: RoundRecord, after: RoundRecord): string[] {
  const said: string[] = [];
  const events = { record: (_: unknown, { type, reason, note }: EventNote) => said.push(`${type} ${reason}: ${note}`) };
  const metrics = { phaseEnded() {}, roundEnded() {}, contribution() {}, aborted() {} };
  tell({ events, metrics } as unknown as Context, {} as FederationRound, before, after);
  return said;
}

const planned = enter(pending(), "Planning", T0 + 1);

describe("a round's events", () => {
  test("each phase is told once, also one that is entered again", () => {
    const second = { ...enter(enter(planned, "Training", T0 + 2), "Planning", T0 + 3), attempt: 2 };
    expect(told(planned, enter(planned, "Training", T0 + 2))).toEqual(["Normal Training: the round entered Training"]);
    expect(told(second, enter(second, "Training", T0 + 4))).toEqual(["Normal Training: the round entered Training"]);
    expect(told(second, second)).toEqual([]);
  });

  test("a new attempt says who is left out and what it costs", () => {
    const before = secureAt("mask", ["ann"]);
    const { secure: _, ...rest } = before;
    const after: RoundRecord = {
      ...enter(rest, "Planning", T0 + 5),
      attempt: 2,
      attempts: { failed: 1, removals: 0 },
      plan: { ...before.plan!, retries: 2 },
      participants: before.participants.map((p) =>
        p.name === "cy" ? participant("cy", "Failed", { message: "it left" }) : p,
      ),
    };
    expect(told(before, after)).toEqual([
      "Warning ParticipantFailed: cy: it left",
      "Warning NewAttempt: attempt 2 without cy; a cohort was below its threshold: retry 1 of 2. What was trained counts on",
      "Normal Planning: the round entered Planning",
    ]);
  });

  test("whoever was not needed has done nothing wrong", () => {
    const before = training("Contributed", "Training");
    const late = participant("ben", "Excluded", { reason: "NotNeeded", message: "1 contributions are all" });
    expect(told(before, { ...before, participants: [before.participants[0]!, late] })).toEqual([
      "Normal ParticipantExcluded: ben: 1 contributions are all",
    ]);
  });

  test("a full volume is told when it begins and when it ends, and not in between", () => {
    const full = { ...planned, waiting: { for: "StorageFull", message: "the volume is full", sinceMs: T0 } };
    expect(told(planned, full)).toEqual(["Warning StorageFull: the volume is full"]);
    expect(told(full, { ...full })).toEqual([]);
    expect(told(full, planned)).toEqual(["Normal StorageAvailable: the operator's volume has room again"]);
  });

  test("after a restart what the status said is told by then, and the rest is not lost", () => {
    const before = training("Training", "Training");
    const status = statusOf(before, [], { generation: 1, nowMs: T0 });
    const after = enter(
      { ...before, participants: [before.participants[0]!, participant("ben", "Lost", { message: "away" })] },
      "Aggregating",
      T0 + 9,
    );
    expect(told(asTold(status, before), before)).toEqual([]);
    expect(told(asTold(status, after), after)).toEqual([
      "Warning ParticipantLost: ben: away",
      "Normal Aggregating: the round entered Aggregating",
    ]);
  });

  test("a round that nobody has looked at before is told from its beginning", () => {
    expect(told(asTold({ observedGeneration: -1 }, planned), planned)).toEqual([
      "Normal Planning: the round entered Planning",
    ]);
  });
});
