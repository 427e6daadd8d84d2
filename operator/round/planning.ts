/**
 * Planning: cohorts are drawn where there must be several (drawing.ts), then the plan is made, signed and journalled
 * (controllers/round/actions/plan.ts). → Training | Failed.
 * A later attempt comes here again (attempts.ts): what is left of the attempt before goes first, and what its participants report still counts.
 */
import { followDraw, isDrawing } from "./drawing.ts";
import { fail } from "./end.ts";
import type { RoundFault } from "./faults.ts";
import { nextDeadline, quorumFault } from "./members.ts";
import { isOut } from "./participants.ts";
import { type Cohort, type Draw, enter, phaseStart, type RoundParticipant, type RoundRecord } from "./record.ts";
import type { Action, Decision, FederationView, PlanResult, World } from "./world.ts";

type Made = Extract<PlanResult, { kind: "made" }>;
type Unmade = Extract<PlanResult, { kind: "failed" }>;

/** Long enough for a parent adapter that has to be fetched from a registry that is away for two minutes. */
export const PLANNING_LIMIT_MS = 300_000;
const RETRY_AFTER_MS = 2_000;

export function followPlanning(record: RoundRecord, world: World): Decision {
  const lost = record.attempt > 1 ? quorumFault(record) : undefined;
  if (lost) return fail(record, lost, world.nowMs);
  if (world.plan?.kind === "made" && world.plan.attempt === record.attempt) return begin(record, world.plan, world);
  const limit = phaseStart(record) + PLANNING_LIMIT_MS;
  const failure = world.plan?.kind === "failed" ? world.plan : undefined;
  if (world.nowMs >= limit || failure?.retry === false)
    return fail(record, planFault(record, world, failure), world.nowMs);
  if (record.attempt === 1 && isDrawing(record, world)) return followDraw(record, world, limit);
  // What fails at once must not be tried at once again, all the minutes long.
  const dueMs = (failure?.atMs ?? Number.NEGATIVE_INFINITY) + RETRY_AFTER_MS;
  if (world.nowMs < dueMs) return { record, actions: [], lookAgainAtMs: Math.min(limit, dueMs) };
  const drop: Action[] = record.attempt > 1 ? [{ do: "dropAttempt", attempt: record.attempt - 1 }] : [];
  return {
    record,
    actions: [...drop, { do: "plan" }],
    lookAgainAtMs: Math.min(limit, world.nowMs + RETRY_AFTER_MS),
  };
}

function planFault({ federation }: RoundRecord, { storage }: World, failure: Unmade | undefined): RoundFault {
  const problem = failure?.problem ?? "it took longer than five minutes";
  if (failure?.code === "InvalidSettings") return { code: "InvalidSettings", federation, problem };
  return storage ? { code: "StorageFull", problem: storage.problem } : { code: "PlanFailed", problem };
}

function begin(record: RoundRecord, plan: Made, world: World): Decision {
  const { draw, sample: _sample, next: _next, ...planned } = record;
  const { nowMs } = world;
  const begun: RoundRecord = {
    ...enter(planned, "Training", nowMs),
    number: plan.number,
    plan: {
      hash: plan.hash,
      parentVersion: plan.parentVersion,
      minimum: plan.minimum,
      ...(plan.enough !== undefined && { enough: plan.enough }),
      ...attemptTerms(record, world.federation),
      uploadLimitBytes: plan.uploadLimitBytes,
      parentByteLength: plan.parentByteLength,
    },
    deadlines: plan.deadlines,
    aggregationMs: plan.aggregationMs,
    participants: record.attempt > 1 ? record.participants : invited(plan, draw, nowMs),
    ...(plan.secure && { secure: { ...plan.secure, cohorts: cohortsOf(plan.secure, nowMs), dealers: [] } }),
  };
  const there = begun.participants.filter((p) => !isOut(p)).map(({ name }) => name);
  return {
    record: begun,
    actions: [{ do: "sendPlan", participants: there }],
    lookAgainAtMs: nextDeadline(begun, world),
  };
}

/** Fixed with the first plan, like everything else in it. */
function attemptTerms({ plan, attempt }: RoundRecord, federation: FederationView) {
  if (attempt > 1) {
    const { retries, acceptMs } = plan!;
    return { ...(retries !== undefined && { retries }), ...(acceptMs !== undefined && { acceptMs }) };
  }
  if (federation.kind !== "known") return {};
  const { retries, acceptMs } = federation.terms;
  return { retries, acceptMs };
}

function invited({ roster }: Made, draw: Draw | undefined, nowMs: number): RoundParticipant[] {
  return [
    ...roster.map((name) => newParticipant(name, { state: "Invited" }, nowMs)),
    ...(draw?.leftOut ?? []).map(({ name, ...why }) => newParticipant(name, { state: "Lost", ...why }, nowMs)),
  ];
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
