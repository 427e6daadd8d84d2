/** The first record of an assignment: a judged plan, by this agent's clock. */
import { trainerJobName } from "../trainer/job.ts";
import { newTaskToken } from "../trainer/task-server.ts";
import type { ReceivedPlan } from "../transport/plan.ts";
import type { Verdict } from "./policy.ts";
import type { Assignment } from "./record.ts";

export interface Received {
  participant: string;
  /** ledger.seed(); 0 for a plan that is refused. */
  seed: number;
  /** This agent's clock minus the operator's. */
  clockSkewMs: number;
  nowMs: number;
}

export function newAssignment(
  { plan, planHash }: ReceivedPlan,
  verdict: Verdict,
  { participant, seed, clockSkewMs, nowMs }: Received,
): Assignment {
  const isAccepted = verdict.verdict === "accept";
  return {
    schema: 1,
    federation: plan.federation,
    round: plan.round,
    roundName: plan.roundName,
    attempt: plan.attempt,
    purpose: plan.purpose,
    participant,
    planHash: Buffer.from(planHash).toString("hex"),
    ...(plan.aggregation.privacy === "secure" ? { privacy: "secure" } : {}),
    deadlines: {
      acceptMs: local(plan.deadlines.accept, clockSkewMs),
      trainingMs: local(plan.deadlines.training, clockSkewMs),
      aggregationMs: local(plan.deadlines.aggregation, clockSkewMs),
    },
    receivedMs: nowMs,
    job: trainerJobName(plan.roundName, participant, plan.attempt),
    seed,
    ...(isAccepted ? { token: newTaskToken() } : {}),
    state: isAccepted ? { kind: "Accepted" } : { kind: "Refused", reason: verdict.reason, message: verdict.message },
    stateSinceMs: nowMs,
    told: false,
    cleaned: !isAccepted,
  };
}

/** The first record of a later attempt: where the one before stands, with its Job, folder, token, seed and result; told and cleaned anew. */
export function takenOver(
  received: ReceivedPlan,
  before: Assignment,
  { clockSkewMs, nowMs }: Pick<Received, "clockSkewMs" | "nowMs">,
): Assignment {
  const { participant, seed, job, token, state, stateSinceMs, result } = before;
  const { token: _, ...fresh } = newAssignment(
    received,
    { verdict: "accept" },
    { participant, seed, clockSkewMs, nowMs },
  );
  const kept = { job, began: before.began ?? before.attempt, state, stateSinceMs };
  return { ...fresh, ...kept, ...(token !== undefined && { token }), ...(result && { result }) };
}

/** Within what the ledger can hold: the time of sending is not signed, and a record that cannot be read again would stop every start. */
function local(instantMs: number, clockSkewMs: number): number {
  return Math.min(Number.MAX_SAFE_INTEGER, Math.max(0, Math.round(instantMs + clockSkewMs)));
}
