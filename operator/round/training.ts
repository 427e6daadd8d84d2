/**
 * Training: plans are out, trainers run, the first contributions are added. → Aggregating | Planning (a later attempt) | Failed.
 * It ends when nobody trains any more and, in a secure round, everybody's keys are there; at the latest by the training deadline.
 */
import { awaited } from "./cohorts.ts";
import { fail } from "./end.ts";
import { nextDeadline, quorumFault, type Sifted, sift } from "./members.ts";
import { BEFORE_TRAINED, isSettled } from "./participants.ts";
import { enter, type RoundRecord } from "./record.ts";
import { stepCohorts, stepDeadlines } from "./secure-steps.ts";
import { leaveStragglers } from "./stragglers.ts";
import type { Action, Decision, World } from "./world.ts";

export function followTraining(before: RoundRecord, world: World): Decision {
  const training = stepped(leaveStragglers(sift(before, world), world), world, { advertised: false });
  if (isPlannedAgain(training.record)) return { ...training, lookAgainAtMs: world.nowMs };
  const fault = quorumFault(training.record);
  if (fault) return fail(training.record, fault, world.nowMs, training.actions);
  if (isUnderWay(training.record)) {
    const { record, actions } = training;
    return {
      record,
      actions: [...actions, ...invite(record), ...addUp(record, world)],
      lookAgainAtMs: nextDeadline(record, world),
    };
  }
  const aggregating = { ...training, record: startAggregation(training.record, world.nowMs) };
  const { record, actions } = stepped(aggregating, world, { advertised: true });
  // Another phase decides from here on: at once.
  const sum = isPlannedAgain(record) ? [] : addUp(record, world);
  return { record, actions: [...actions, ...sum], lookAgainAtMs: world.nowMs };
}

/** Too few were left of a cohort, and the next attempt goes without those who are lost. */
export function isPlannedAgain({ phase }: RoundRecord): boolean {
  return phase === "Planning";
}

function isUnderWay(record: RoundRecord): boolean {
  if (record.participants.some((p) => BEFORE_TRAINED.includes(p.state))) return true;
  return (record.secure?.cohorts ?? []).some((cohort) => awaited(record, cohort).length > 0);
}

function stepped({ record, actions }: Sifted, world: World, at: { advertised: boolean }): Sifted {
  if (!record.secure) return { record, actions };
  const after = stepCohorts(record, world, at);
  return { record: after.record, actions: [...actions, ...after.actions] };
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
  const planned = record.deadlines!;
  const lengthMs = record.aggregationMs!;
  const deadlines = {
    ...planned,
    ...(record.secure && earlier(planned, stepDeadlines(nowMs, lengthMs))),
    aggregationMs: Math.min(planned.aggregationMs, nowMs + lengthMs),
  };
  return { ...enter(record, "Aggregating", nowMs), deadlines };
}

function earlier(planned: NonNullable<RoundRecord["deadlines"]>, now: ReturnType<typeof stepDeadlines>) {
  return {
    shareMs: Math.min(planned.shareMs!, now.shareMs),
    maskMs: Math.min(planned.maskMs!, now.maskMs),
    consistencyMs: Math.min(planned.consistencyMs!, now.consistencyMs),
  };
}
