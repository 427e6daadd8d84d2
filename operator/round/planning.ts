/** Planning: the plan is made, signed and journalled (controllers/round/actions/plan.ts). → Training | Failed. */
import { fail } from "./end.ts";
import { enter, phaseStart, type RoundRecord } from "./record.ts";
import type { Decision, PlanResult, World } from "./world.ts";

/** Long enough for a parent adapter that has to be fetched from a registry with a bad minute. */
export const PLANNING_LIMIT_MS = 120_000;
const RETRY_AFTER_MS = 2_000;

export function followPlanning(record: RoundRecord, world: World): Decision {
  if (world.plan?.kind === "made") return begin(record, world.plan, world.nowMs);
  const limit = phaseStart(record) + PLANNING_LIMIT_MS;
  const problem = world.plan?.problem ?? "it took longer than two minutes";
  if (world.nowMs >= limit || world.plan?.retry === false)
    return fail(record, { code: "PlanFailed", problem }, world.nowMs);
  return { record, actions: [{ do: "plan" }], lookAgainAtMs: Math.min(limit, world.nowMs + RETRY_AFTER_MS) };
}

function begin(record: RoundRecord, plan: Extract<PlanResult, { kind: "made" }>, nowMs: number): Decision {
  const next: RoundRecord = {
    ...enter(record, "Training", nowMs),
    number: plan.number,
    plan: {
      hash: plan.hash,
      parentVersion: plan.parentVersion,
      minimum: plan.minimum,
      uploadLimitBytes: plan.uploadLimitBytes,
      parentByteLength: plan.parentByteLength,
    },
    deadlines: plan.deadlines,
    aggregationMs: plan.aggregationMs,
    participants: plan.roster.map((name) => ({
      name,
      state: "Invited",
      job: "",
      reason: "",
      message: "",
      sinceMs: nowMs,
    })),
  };
  return {
    record: next,
    actions: [{ do: "sendPlan", participants: plan.roster }],
    lookAgainAtMs: plan.deadlines.acceptMs,
  };
}
