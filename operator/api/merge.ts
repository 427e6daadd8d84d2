/**
 * The settings of one round: the Federation's, with the round's overrides on top, field by field (api.md).
 * Holds: privacy, rule, lora, model, adapter and destination are the Federation's alone.
 * Does not: read objects or fill defaults; the API server has filled the Federation's.
 */
import type { FederationSpec } from "./federation.ts";
import type { FederationRoundSpec } from "./federation-round.ts";
import { durationMs } from "./quantities.ts";

export type EffectiveSettings = Pick<
  FederationSpec,
  "baseModel" | "adapter" | "training" | "participants" | "deadlines" | "retries" | "aggregation" | "publish" | "rounds"
>;

export function effectiveSettings(
  federation: FederationSpec,
  round: Omit<FederationRoundSpec, "federation">,
): EffectiveSettings {
  const { baseModel, adapter, training, participants, deadlines, retries, aggregation, publish, rounds } = federation;
  const { privacy, rule, lora } = aggregation;
  return {
    baseModel,
    adapter,
    publish,
    ...(rounds && { rounds }),
    training: mergedTraining(training, round.training),
    participants: overlaid(participants, round.participants),
    deadlines: overlaid(deadlines, round.deadlines),
    retries: round.retries ?? retries,
    // Said again behind the overrides: an object that came past the API server's schema must not lower the privacy.
    aggregation: { ...overlaid(aggregation, round.aggregation), privacy, rule, lora },
  };
}

/** steps and epochs say the same in two ways: whichever the round says takes the place of both. */
function mergedTraining(
  training: FederationSpec["training"],
  override: FederationRoundSpec["training"],
): FederationSpec["training"] {
  const { steps, epochs, ...rest } = training;
  const isOverridden = override?.steps !== undefined || override?.epochs !== undefined;
  const length = isOverridden ? {} : { steps, epochs };
  const resources = overlaid(training.resources, override?.resources);
  return overlaid(rest, { ...withoutUndefined(length), ...override, resources });
}

/** Lengths of the phases in milliseconds. */
export function deadlinesMs(deadlines: FederationSpec["deadlines"]): {
  [K in keyof FederationSpec["deadlines"]]: number;
} {
  return {
    accept: durationMs(deadlines.accept),
    training: durationMs(deadlines.training),
    aggregation: durationMs(deadlines.aggregation),
  };
}

/** An override that is written out as undefined must not erase what it overrides. */
function overlaid<T extends object>(base: T, override: { [K in keyof T]?: T[K] | undefined } | undefined): T {
  return { ...base, ...withoutUndefined(override ?? {}) };
}

function withoutUndefined<T extends object>(values: T): Partial<T> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Partial<T>;
}
