/**
 * Training: plans are out, trainers run, the first contributions are added. → Aggregating | Failed.
 * It ends when nobody trains any more, at the latest by the training deadline.
 */
import { fail } from "./end.ts";
import { nextDeadline, quorumFault, sift } from "./members.ts";
import { BEFORE_TRAINED, isSettled } from "./participants.ts";
import { enter, type RoundRecord } from "./record.ts";
import type { Action, Decision, World } from "./world.ts";

export function followTraining(before: RoundRecord, world: World): Decision {
  const { record, actions } = sift(before, world);
  const fault = quorumFault(record);
  if (fault) return fail(record, fault, world.nowMs, actions);
  if (record.participants.some((p) => BEFORE_TRAINED.includes(p.state))) {
    return {
      record,
      actions: [...actions, ...invite(record), ...addUp(record, world)],
      lookAgainAtMs: nextDeadline(record),
    };
  }
  const aggregating = startAggregation(record, world.nowMs);
  return {
    record: aggregating,
    actions: [...actions, ...addUp(aggregating, world)],
    // Another phase decides from here on: at once.
    lookAgainAtMs: world.nowMs,
  };
}

/** Contributions whose number is not in the sum yet; the worker adds each once and in any order. */
export function addUp(record: RoundRecord, world: World): Action[] {
  const known = new Set([...world.sum.added, ...world.sum.refused.map((r) => r.participant)]);
  const contributions = record.contributions.filter((c) => !known.has(c.participant));
  return contributions.length === 0 ? [] : [{ do: "sum", contributions }];
}

function invite(record: RoundRecord): Action[] {
  const open = record.participants.filter((p) => !isSettled(p)).map((p) => p.name);
  return open.length === 0 ? [] : [{ do: "sendPlan", participants: open }];
}

/** Time saved in training is not waited away: aggregation has its own length, and never more than the plan said. */
function startAggregation(record: RoundRecord, nowMs: number): RoundRecord {
  const deadlines = record.deadlines!;
  const aggregationMs = Math.min(deadlines.aggregationMs, nowMs + record.aggregationMs!);
  return { ...enter(record, "Aggregating", nowMs), deadlines: { ...deadlines, aggregationMs } };
}
