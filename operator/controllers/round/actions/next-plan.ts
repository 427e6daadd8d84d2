/**
 * The plan of a later attempt: the one before without those who are out, with its own thresholds, scales and deadlines, and everything else
 * as it was (secure-aggregation.md §6 "A later attempt keeps the split and only loses members").
 * Idempotent: the plan that is there already is the plan.
 */
import { type Plan, planSchema } from "../../../round/plan.ts";
import type { NextAttempt, RoundRecord } from "../../../round/record.ts";
import { stepDeadlines } from "../../../round/secure-steps.ts";
import { thresholdOf } from "../../../secagg/thresholds.ts";
import { planScales } from "../../../secagg/vector.ts";
import { signPlan } from "../../../transport/plan.ts";
import type { Context } from "../../context.ts";
import { planWrites, type RoundPlan, readPlan } from "../stored-plan.ts";
import { type Made, resultOf } from "./plan-result.ts";

/**
 * @param record  with `next`, of an attempt above 1
 * @param signal  of the round's end
 * @throws Error with a sentence
 */
export async function makeNextPlan(
  context: Pick<Context, "journal" | "planKey" | "now">,
  record: RoundRecord,
  signal: AbortSignal,
): Promise<Made> {
  const before = await planBefore(context, record);
  const plan = planSchema.parse(nextPlan(before.plan, record.attempt, record.next!, context.now()));
  const { signed, planHash } = signPlan(plan, context.planKey);
  const { parent, publish } = before;
  signal.throwIfAborted();
  await context.journal.commit(planWrites(record, { signed, parent, publish }));
  return resultOf({ plan, planHash });
}

/** Of the attempt before, or an earlier one where that never got a plan. */
async function planBefore(
  { journal }: Pick<Context, "journal">,
  { uid, attempt: current }: RoundRecord,
): Promise<RoundPlan> {
  for (let attempt = current - 1; attempt >= 1; attempt--) {
    const found = await readPlan(journal, { uid, attempt });
    if (found) return found;
  }
  throw new Error("the journal has lost the plan of the attempt before");
}

/** @param before  of a secure round */
export function nextPlan(before: Plan, attempt: number, { cohorts, deadlines }: NextAttempt, nowMs: number): Plan {
  const kept = new Set(cohorts.flat());
  const secure = before.secure!;
  const largestCohort = Math.max(...cohorts.map(({ length }) => length));
  const clips = secure.scales.map(({ clip }) => Number(clip));
  return {
    ...before,
    attempt,
    roster: before.roster.filter(({ participant }) => kept.has(participant)),
    secure: {
      ...secure,
      largestCohort,
      cohorts: cohorts.map((members) => ({ members, threshold: thresholdOf(members.length) })),
      scales: planScales(secure.ring, largestCohort, clips),
    },
    deadlines: deadlinesOf(deadlines, before.deadlines.aggregation - before.deadlines.training, nowMs),
  };
}

function deadlinesOf(next: NextAttempt["deadlines"], aggregationMs: number, nowMs: number): Plan["deadlines"] {
  const anewMs = next.kind === "anew" ? nowMs + next.withinMs : undefined;
  const accept = next.kind === "kept" ? next.acceptMs : anewMs!;
  const training = next.kind === "kept" ? next.trainingMs : anewMs!;
  const { shareMs, maskMs, consistencyMs } = stepDeadlines(training, aggregationMs);
  const aggregation = training + aggregationMs;
  return { accept, training, share: shareMs, mask: maskMs, consistency: consistencyMs, aggregation };
}
