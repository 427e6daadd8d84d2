/**
 * The secure part of a plan (secure-aggregation.md §2 "The plan covers", §4, §5): cohorts and thresholds, clips and scales, metrics.
 * Holds: every agent computes thresholds, largest cohort, scales and the split again, and refuses a plan that says anything else.
 */
import type { EffectiveSettings } from "../../api/merge.ts";
import type { Plan, SecurePlan } from "../../round/plan.ts";
import type { Draw, RoundRecord } from "../../round/record.ts";
import { cohortsOf, drawSeed } from "../../secagg/draw.ts";
import { SMALLEST_COHORT, thresholdOf } from "../../secagg/thresholds.ts";
import { PLAN_METRICS, planScales } from "../../secagg/vector.ts";
import { clipsFor } from "../clips.ts";
import type { Context } from "../context.ts";

/** @throws Error with a sentence when there are too few for one cohort */
export async function securePlan(
  context: Context,
  record: RoundRecord,
  settings: EffectiveSettings,
  planned: Pick<Plan, "federation" | "round" | "roster" | "tensors">,
): Promise<SecurePlan> {
  const names = planned.roster.map(({ participant }) => participant);
  const draw = record.draw && record.draw.members.length > record.draw.cohortSize ? record.draw : undefined;
  const cohorts = draw ? split(planned, draw) : [names];
  const smallest = Math.min(...cohorts.map(({ length }) => length));
  if (smallest < SMALLEST_COHORT)
    throw new Error(
      `a cohort of ${smallest} cannot hide its members; secure aggregation needs ${SMALLEST_COHORT} participants`,
    );
  const largestCohort = Math.max(...cohorts.map(({ length }) => length));
  const { clipNorm, ring } = settings.aggregation;
  const clips = await clipsFor(context.journal, record.federation, planned.tensors, clipNorm);
  return {
    ring,
    largestCohort,
    cohorts: cohorts.map((members) => ({ members, threshold: thresholdOf(members.length) })),
    ...(draw && { draw: shownDraw(draw) }),
    scales: planScales(ring, largestCohort, clips.map(Number)),
    metrics: PLAN_METRICS,
  };
}

function split({ federation, round }: Pick<Plan, "federation" | "round">, draw: Draw): string[][] {
  const nonces = draw.members.map(({ name, nonce }) => ({
    participant: name,
    nonce: new Uint8Array(Buffer.from(nonce!, "base64")),
  }));
  const seed = drawSeed({ federation, round, number: draw.number }, nonces);
  return cohortsOf(
    seed,
    draw.members.map(({ name }) => name),
    draw.cohortSize,
  );
}

/** All that everybody needs to split again. */
function shownDraw({ number, members }: Draw): NonNullable<SecurePlan["draw"]> {
  return {
    number,
    nonces: members.map(({ name, commitment, signature, nonce }) => ({
      participant: name,
      commitment: commitment!,
      signature: signature!,
      nonce: nonce!,
    })),
  };
}
