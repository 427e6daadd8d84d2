/**
 * Planning: cohorts are drawn where there must be several (drawing.ts), then the plan is made, signed and journalled
 * (controllers/round/actions/plan.ts). → Training | Failed.
 */
import { followDraw, isDrawing } from "./drawing.ts";
import { fail } from "./end.ts";
import { type Cohort, enter, phaseStart, type RoundParticipant, type RoundRecord } from "./record.ts";
import type { Decision, PlanResult, World } from "./world.ts";

type Made = Extract<PlanResult, { kind: "made" }>;

/** Long enough for a parent adapter that has to be fetched from a registry with a bad minute. */
export const PLANNING_LIMIT_MS = 120_000;
const RETRY_AFTER_MS = 2_000;

export function followPlanning(record: RoundRecord, world: World): Decision {
  if (world.plan?.kind === "made") return begin(record, world.plan, world.nowMs);
  const limit = phaseStart(record) + PLANNING_LIMIT_MS;
  const failure = world.plan?.kind === "failed" ? world.plan : undefined;
  const problem = failure?.problem ?? "it took longer than two minutes";
  if (world.nowMs >= limit || failure?.retry === false)
    return fail(record, { code: "PlanFailed", problem }, world.nowMs);
  if (isDrawing(record, world)) return followDraw(record, world, limit);
  return { record, actions: [{ do: "plan" }], lookAgainAtMs: Math.min(limit, world.nowMs + RETRY_AFTER_MS) };
}

function begin(record: RoundRecord, plan: Made, nowMs: number): Decision {
  const { draw, ...planned } = record;
  const next: RoundRecord = {
    ...enter(planned, "Training", nowMs),
    number: plan.number,
    plan: {
      hash: plan.hash,
      parentVersion: plan.parentVersion,
      minimum: plan.minimum,
      ...(plan.enough !== undefined && { enough: plan.enough }),
      uploadLimitBytes: plan.uploadLimitBytes,
      parentByteLength: plan.parentByteLength,
    },
    deadlines: plan.deadlines,
    aggregationMs: plan.aggregationMs,
    participants: [
      ...plan.roster.map((name) => newParticipant(name, { state: "Invited" }, nowMs)),
      ...(draw?.leftOut ?? []).map(({ name, ...why }) => newParticipant(name, { state: "Lost", ...why }, nowMs)),
    ],
    ...(plan.secure && { secure: { ...plan.secure, cohorts: cohortsOf(plan.secure, nowMs), dealers: [] } }),
  };
  return {
    record: next,
    actions: [{ do: "sendPlan", participants: plan.roster }],
    lookAgainAtMs: plan.deadlines.acceptMs,
  };
}

function newParticipant(
  name: string,
  change: Pick<RoundParticipant, "state"> & Partial<RoundParticipant>,
  sinceMs: number,
) {
  return { name, job: "", reason: "", message: "", sinceMs, ...change };
}

function cohortsOf({ cohorts }: NonNullable<Made["secure"]>, sinceMs: number): Cohort[] {
  return cohorts.map((cohort) => ({ ...cohort, step: "advertise", sinceMs, answered: [], gone: [], accusations: [] }));
}
