/**
 * Makes, signs and journals an attempt's plan. Idempotent: a plan that is there already is the plan.
 * Specified: protocol.md "A plan"; the deadlines count from now, each from the start of its phase (api.md). A later attempt's is made of the
 * one before (next-plan.ts).
 */
import { deadlinesMs, type EffectiveSettings } from "../../../api/merge.ts";
import { isOfSchema3 } from "../../../api/planned-training.ts";
import { trainingProblem } from "../../../api/training.ts";
import { tensorTable } from "../../../publish/peft.ts";
import { openSafetensors } from "../../../publish/safetensors.ts";
import { type Plan, planSchema } from "../../../round/plan.ts";
import type { RoundRecord } from "../../../round/record.ts";
import { stepDeadlines } from "../../../round/secure-steps.ts";
import type { PlanResult, Terms } from "../../../round/world.ts";
import { SMALLEST_COHORT } from "../../../secagg/thresholds.ts";
import { signPlan } from "../../../transport/plan.ts";
import { generateRoundKeys } from "../../../transport/sealing.ts";
import { shapeProblem } from "../../adapter-shape.ts";
import { type Context, federationId } from "../../context.ts";
import { repositoryOf } from "../../registry.ts";
import type { ActiveVersion } from "../../versions.ts";
import { securePlan } from "../secure-plan.ts";
import { NUMBERS, planWrites, type RoundPlan, readPlan } from "../stored-plan.ts";
import { makeNextPlan } from "./next-plan.ts";
import { resultOf } from "./plan-result.ts";
import { plannedTraining } from "./planned-training.ts";
import { chosenRoster } from "./roster.ts";
import { SettingsFault } from "./settings-fault.ts";

/**
 * @param settings  of Federation and round; a later attempt asks for none, so that a Federation that is gone by then ends nothing
 * @param signal    of the round's end: what is journalled after it would never be removed, a secret key among it
 * @throws Error with a sentence; SettingsFault; PublishFault and TransportFault "DiskFull", which a later try may mend
 */
export async function makePlan(
  context: Context,
  record: RoundRecord,
  settings: () => EffectiveSettings,
  signal: AbortSignal,
): Promise<Exclude<PlanResult, { kind: "failed" }>> {
  const known = await readPlan(context.journal, record);
  if (known) return resultOf(known);
  context.storage.requireRoom();
  if (record.attempt > 1) return makeNextPlan(context, record, signal);
  return makeFirstPlan(context, record, settings(), signal);
}

async function makeFirstPlan(
  context: Context,
  record: RoundRecord,
  settings: EffectiveSettings,
  signal: AbortSignal,
): Promise<Exclude<PlanResult, { kind: "failed" }>> {
  const isSecure = settings.aggregation.privacy === "secure";
  const contradiction = trainingProblem(settings.training, settings.rounds);
  if (contradiction) throw new SettingsFault(contradiction);
  const { roster, sample } = chosenRoster(context, record, settings, termsOf(settings).minimum);
  const { cohortSize } = settings.aggregation;
  const sampled = sample && { sample };
  if (isSecure && !record.draw && roster.length > cohortSize) {
    const number = await numberOf(context, record);
    return { kind: "draw", number, cohortSize, members: roster.map(({ participant }) => participant), ...sampled };
  }
  const parent = context.versions.active(record.federation);
  if (!parent) throw new Error("the federation has no active adapter");
  const repository = (signal: AbortSignal) =>
    repositoryOf(context.client, context.config.namespace, settings.publish.oci, { signal });
  const file = await context.adapters.ensure(parent, repository);
  const tensors = await tableOf(file.file, settings.adapter.rank);
  const problem = shapeProblem(tensors, settings.adapter.targetModules);
  if (problem) throw new Error(`${parent.name}: ${problem}; targetModules cannot change once there is a version`);
  const keys = isSecure ? undefined : await generateRoundKeys();
  const number = await numberOf(context, record);
  const identified = { federation: federationId(context, record.federation), round: number };
  const secure = isSecure && (await securePlan(context, record, settings, { ...identified, roster, tensors }));
  const plan = planSchema.parse({
    ...planOf(settings, { ...parent, byteLength: file.byteLength }, plannedTraining(settings.training)),
    ...identified,
    roundName: record.name,
    roster,
    ...sampled,
    tensors,
    ...(keys && { sealing: { publicKey: Buffer.from(keys.publicKey).toString("base64") } }),
    ...(secure && { secure }),
    deadlines: deadlinesFrom(context.now(), termsOf(settings), isSecure),
  } satisfies Plan);
  const { signed, planHash } = signPlan(plan, context.planKey);
  const made: RoundPlan = { plan, planHash, signed, parent, publish: settings.publish };
  signal.throwIfAborted();
  await context.journal.commit(planWrites(record, { ...made, privateKey: keys?.privateKey }));
  return resultOf(made);
}

export function termsOf(settings: EffectiveSettings): Terms {
  const { accept, training, aggregation } = deadlinesMs(settings.deadlines);
  const { minimum } = settings.participants;
  return {
    // A round's override may say less than a cohort needs.
    minimum: settings.aggregation.privacy === "secure" ? Math.max(minimum, SMALLEST_COHORT) : minimum,
    acceptMs: Math.min(accept, training),
    trainingMs: training,
    aggregationMs: aggregation,
    retries: settings.retries,
  };
}

/** Accept and training both begin with the plan; aggregation begins at the latest when training ends. */
export function deadlinesFrom(nowMs: number, terms: Terms, isSecure: boolean): Plan["deadlines"] {
  const accept = nowMs + terms.acceptMs;
  const training = nowMs + terms.trainingMs;
  const { shareMs, maskMs, consistencyMs } = stepDeadlines(training, terms.aggregationMs);
  const steps = isSecure ? { share: shareMs, mask: maskMs, consistency: consistencyMs } : {};
  return { accept, training, ...steps, aggregation: training + terms.aggregationMs };
}

function planOf(settings: EffectiveSettings, parent: ActiveVersion, training: Plan["training"]) {
  const { baseModel, adapter } = settings;
  const { rank, alpha, targetModules } = adapter;
  const { privacy, rule, lora, weighting, exampleCap, clipNorm } = settings.aggregation;
  return {
    schema: isOfSchema3(training) ? 3 : 4,
    attempt: 1,
    purpose: "delta",
    minimum: termsOf(settings).minimum,
    baseModel,
    parent: { version: parent.version, digest: parent.adapterDigest, byteLength: parent.byteLength },
    adapter: { rank, alpha, targetModules },
    training,
    aggregation: { privacy, rule, lora, weighting, exampleCap, clipNorm },
  } satisfies Partial<Plan>;
}

async function tableOf(file: string, rank: number): Promise<Plan["tensors"]> {
  await using adapter = await openSafetensors(file);
  return tensorTable(adapter.header.tensors, rank);
}

/** Its own for good, and above what any round of this federation carries: the journal may be younger than the objects. */
async function numberOf(context: Context, { federation, uid, number }: RoundRecord): Promise<number> {
  if (number !== undefined) return number;
  const used = Math.max(0, ...context.objects.roundsOf(federation).map((round) => round.status.number ?? 0));
  return context.journal.increment(`round/${federation}`, { above: used, keep: { space: NUMBERS, key: uid } });
}
