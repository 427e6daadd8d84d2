/**
 * Whether a plan's secure aggregation protects this site as it says: cohorts, thresholds, scales, metrics, deadlines and draw, each against what
 * this agent computes itself (secure-aggregation.md §4–§6).
 * Holds: pure; nothing that the coordinator chooses can make a cohort smaller, a threshold lower or the ring wrap around.
 * Does not: judge whose keys are in the roster (trust.ts).
 */
import type { Plan, SecurePlan } from "../../round/plan.ts";
import { thresholdOf } from "../../secagg/thresholds.ts";
import { PLAN_METRICS, planScales, vectorLayout } from "../../secagg/vector.ts";
import { drawFault } from "./draw-check.ts";
import type { DrawRow } from "./draw-ledger.ts";

export interface SecureSite {
  participant: string;
  minCohort: number;
  /** This agent's part in the draw that the plan names; absent: it took no part in it. */
  draw?: DrawRow | undefined;
}

export interface PlanFault {
  reason: "PlanMalformed" | "CohortTooSmall" | "DrawInvalid";
  message: string;
}

/** This participant's cohort, from 0, and its idx in it, from 1. @throws RangeError when it is in none */
export function placeOf(plan: Plan, participant: string): { cohort: number; own: number } {
  const cohort = plan.secure?.cohorts.findIndex(({ members }) => members.includes(participant)) ?? -1;
  if (cohort < 0) throw new RangeError(`${participant} is in no cohort of the plan`);
  return { cohort, own: plan.secure!.cohorts[cohort]!.members.indexOf(participant) + 1 };
}

/** @returns undefined for a plan that protects this site as it says */
export function judgeSecurePlan(plan: Plan, site: SecureSite): PlanFault | undefined {
  const { secure } = plan;
  if (!secure || plan.sealing) return malformed("a secure round has cohorts and no sealing key");
  return (
    judgeCohorts(plan, secure) ??
    judgeOwnCohort(plan, secure, site) ??
    judgeScales(plan, secure) ??
    judgeMetrics(secure) ??
    judgeLength(plan) ??
    judgeDeadlines(plan) ??
    judgeDraw(plan, site)
  );
}

function judgeCohorts(plan: Plan, { cohorts, largestCohort }: SecurePlan): PlanFault | undefined {
  const placed = cohorts.flatMap(({ members }) => members);
  const roster = plan.roster.map(({ participant }) => participant);
  if (placed.length !== roster.length || !isSame([...placed].sort(byBytes), roster)) {
    return malformed("the plan's cohorts are not its roster with each member once");
  }
  for (const [index, { members, threshold }] of cohorts.entries()) {
    if (!isSame([...members].sort(byBytes), members)) return malformed(`cohort ${index} of the plan is not ascending`);
    const expected = thresholdOf(members.length);
    if (threshold !== expected) {
      return malformed(`cohort ${index} of ${members.length} has threshold ${threshold}, not ${expected}`);
    }
  }
  const largest = Math.max(...cohorts.map(({ members }) => members.length));
  return largestCohort === largest
    ? undefined
    : malformed(`the plan's largest cohort has ${largest} members, not ${largestCohort}`);
}

function judgeOwnCohort(plan: Plan, secure: SecurePlan, site: SecureSite): PlanFault | undefined {
  const size = secure.cohorts[placeOf(plan, site.participant).cohort]!.members.length;
  if (size >= site.minCohort) return undefined;
  const message = `policy: this site's cohort has ${size} members, it takes part with at least ${site.minCohort}`;
  return { reason: "CohortTooSmall", message };
}

function judgeScales(plan: Plan, { ring, largestCohort, scales }: SecurePlan): PlanFault | undefined {
  if (scales.length !== plan.tensors.length) return malformed("the plan has other than one scale per tensor");
  const clips = scales.map(({ clip }) => Number(clip));
  const unfit = clips.findIndex((clip) => !isFit(clip));
  if (unfit >= 0) return malformed(`the plan's clip of ${plan.tensors[unfit]!.name} is not above 0, or beyond all use`);
  const wrong = planScales(ring, largestCohort, clips).findIndex(
    ({ clip, scale }, index) => clip !== scales[index]!.clip || scale !== scales[index]!.scale,
  );
  return wrong < 0
    ? undefined
    : malformed(`the plan's scale of ${plan.tensors[wrong]!.name} is not what its clip and largest cohort give`);
}

function judgeMetrics({ metrics }: SecurePlan): PlanFault | undefined {
  const stranger = metrics.find(
    ({ name, scale, perTensor }) =>
      !PLAN_METRICS.some((known) => known.name === name && known.scale === scale && known.perTensor === perTensor),
  );
  if (stranger)
    return malformed(`the plan asks for a metric ${stranger.name} that this agent does not know in that form`);
  const isDouble = new Set(metrics.map(({ name }) => name)).size < metrics.length;
  return isDouble ? malformed("the plan asks for a metric twice") : undefined;
}

function judgeDeadlines({ deadlines }: Plan): PlanFault | undefined {
  const { training, share, mask, consistency, aggregation } = deadlines;
  if (share === undefined || mask === undefined || consistency === undefined) {
    return malformed("a secure plan has deadlines for sharing, masking and consistency");
  }
  const isOrdered = training <= share && share <= mask && mask <= consistency && consistency <= aggregation;
  return isOrdered ? undefined : malformed("the plan's deadlines are out of order");
}

function judgeDraw(plan: Plan, { participant, draw }: SecureSite): PlanFault | undefined {
  const message = drawFault(plan, participant, draw);
  return message === undefined ? undefined : { reason: "DrawInvalid", message };
}

/** Above 0, and neither its square (`energy`) nor what it divides leaves float64's range: else masking would fail for ever. */
const isFit = (clip: number): boolean => clip >= 1e-100 && clip <= 1e100;

/** @returns why no key may mask the plan's vector */
function judgeLength(plan: Plan): PlanFault | undefined {
  try {
    vectorLayout(plan);
    return undefined;
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return malformed(`the plan's vector cannot be masked: ${error.message}`);
  }
}

function isSame(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((name, index) => name === b[index]);
}

function byBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

function malformed(message: string): PlanFault {
  return { reason: "PlanMalformed", message };
}
