/** What a signed plan says to the round's record. Pure. */
import { formatHeader } from "../../../publish/safetensors-header.ts";
import type { PlanResult } from "../../../round/world.ts";
import { vectorLayout } from "../../../secagg/vector.ts";
import { sealedLength } from "../../../transport/sealing.ts";
import type { RoundPlan } from "../stored-plan.ts";

export type Made = Extract<PlanResult, { kind: "made" }>;

/** What a delta's header may have beyond the names: metadata and the writer's padding. */
const HEADER_SLACK_BYTES = 64 * 1024;

export function resultOf({ plan, planHash }: Pick<RoundPlan, "plan" | "planHash">): Made {
  const specs = plan.tensors.map(({ name, shape }) => ({ name, shape, dtype: "F32" as const }));
  const plaintextBytes = formatHeader(specs).header.byteLength + HEADER_SLACK_BYTES;
  const { accept, training, share, mask, consistency, aggregation } = plan.deadlines;
  const secure = plan.secure && { byteLength: vectorLayout(plan).byteLength, cohorts: plan.secure.cohorts };
  return {
    kind: "made",
    attempt: plan.attempt,
    number: plan.round,
    hash: Buffer.from(planHash).toString("hex"),
    parentVersion: plan.parent.version,
    parentByteLength: plan.parent.byteLength,
    uploadLimitBytes: secure?.byteLength ?? sealedLength(plaintextBytes),
    roster: plan.roster.map(({ participant }) => participant),
    minimum: plan.minimum,
    ...(plan.sample && { enough: plan.sample.count }),
    aggregationMs: aggregation - training,
    deadlines: {
      acceptMs: accept,
      trainingMs: training,
      ...(secure && { shareMs: share!, maskMs: mask!, consistencyMs: consistency! }),
      aggregationMs: aggregation,
    },
    ...(secure && { secure }),
  };
}
