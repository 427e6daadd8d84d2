/**
 * Makes, signs and journals a round's plan. Idempotent: a plan that is there already is the plan.
 * Specified: protocol.md "A plan"; the deadlines count from now, each from the start of its phase (api.md).
 */
import { deadlinesMs, type EffectiveSettings } from "../../../api/merge.ts";
import { tensorTable } from "../../../publish/peft.ts";
import { openSafetensors } from "../../../publish/safetensors.ts";
import { compareNames, formatHeader } from "../../../publish/safetensors-header.ts";
import { type Plan, planSchema } from "../../../round/plan.ts";
import type { Draw, RoundRecord } from "../../../round/record.ts";
import { stepDeadlines } from "../../../round/secure-steps.ts";
import { canBeInvited, type PlanResult, type Terms } from "../../../round/world.ts";
import { isCommitment } from "../../../secagg/draw.ts";
import { SMALLEST_COHORT } from "../../../secagg/thresholds.ts";
import { vectorLayout } from "../../../secagg/vector.ts";
import { signPlan } from "../../../transport/plan.ts";
import { generateRoundKeys, sealedLength } from "../../../transport/sealing.ts";
import { shapeProblem } from "../../adapter-shape.ts";
import { type Context, federationId } from "../../context.ts";
import { repositoryOf } from "../../registry.ts";
import { candidatesOf, identityOf } from "../../selector.ts";
import type { ActiveVersion } from "../../versions.ts";
import { securePlan } from "../secure-plan.ts";
import { planWrites, type RoundPlan, readPlan } from "../stored-plan.ts";

type Made = Extract<PlanResult, { kind: "made" }>;
type Roster = Plan["roster"];

/** What a delta's header may have beyond the names: metadata and the writer's padding. */
const HEADER_SLACK_BYTES = 64 * 1024;

/**
 * @param signal  of the round's end: what is journalled after it would never be removed, a secret key among it
 * @throws Error with a sentence; PublishFault, which a later try may mend
 */
export async function makePlan(
  context: Context,
  record: RoundRecord,
  settings: EffectiveSettings,
  signal: AbortSignal,
): Promise<Exclude<PlanResult, { kind: "failed" }>> {
  const known = await readPlan(context.journal, record.uid);
  if (known) return resultOf(known);
  const isSecure = settings.aggregation.privacy === "secure";
  const roster = record.draw
    ? drawnRoster(context, { ...record, draw: record.draw })
    : rosterOf(context, record, settings);
  const { cohortSize } = settings.aggregation;
  if (isSecure && !record.draw && roster.length > cohortSize) {
    const number = record.number ?? (await nextNumber(context, record.federation));
    return { kind: "draw", number, cohortSize, members: roster.map(({ participant }) => participant) };
  }
  const parent = context.versions.active(record.federation);
  if (!parent) throw new Error("the federation has no active adapter");
  const repository = () => repositoryOf(context.client, context.config.namespace, settings.publish.oci);
  const file = await context.adapters.ensure(parent, repository);
  const tensors = await tableOf(file.file, settings.adapter.rank);
  const problem = shapeProblem(tensors, settings.adapter.targetModules);
  if (problem) throw new Error(`${parent.name}: ${problem}; targetModules cannot change once there is a version`);
  const keys = isSecure ? undefined : await generateRoundKeys();
  const number = record.number ?? (await nextNumber(context, record.federation));
  const identified = { federation: federationId(context, record.federation), round: number };
  const secure = isSecure && (await securePlan(context, record, settings, { ...identified, roster, tensors }));
  const plan = planSchema.parse({
    ...planOf(settings, { ...parent, byteLength: file.byteLength }),
    ...identified,
    roundName: record.name,
    roster,
    tensors,
    ...(keys && { sealing: { publicKey: Buffer.from(keys.publicKey).toString("base64") } }),
    ...(secure && { secure }),
    deadlines: deadlinesFrom(context.now(), termsOf(settings), isSecure),
  } satisfies Plan);
  const { signed, planHash } = signPlan(plan, context.planKey);
  const made: RoundPlan = { plan, planHash, signed, parent, publish: settings.publish };
  signal.throwIfAborted();
  await context.journal.commit(planWrites(record.uid, { ...made, privateKey: keys?.privateKey }));
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

function planOf(settings: EffectiveSettings, parent: ActiveVersion) {
  const { baseModel, adapter, training } = settings;
  const { rank, alpha, targetModules } = adapter;
  const { privacy, rule, lora, weighting, exampleCap, clipNorm } = settings.aggregation;
  return {
    schema: 3,
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

function rosterOf(context: Context, record: RoundRecord, settings: EffectiveSettings): Roster {
  const isLeftOut = (name: string, identity?: string) => context.leftOut.has(record.federation, name, identity);
  const invited = candidatesOf(settings.participants.selector, context.objects.participants(), isLeftOut)
    .filter(canBeInvited)
    .map(({ name }) => ({ participant: name, identity: identityOf(context.objects.participant(name)!)! }))
    .sort((a, b) => compareNames(a.participant, b.participant));
  if (invited.length > 256)
    throw new Error(`${invited.length} Participants match; a round has at most 256: narrow the selector`);
  return invited;
}

/**
 * Whoever took part in the draw is on the plan, with the key that it committed with: else the plan's draw would not be the one that everybody saw.
 * @throws Error with a sentence
 */
export function drawnRoster(
  context: { config: Context["config"]; objects: Pick<Context["objects"], "participant"> },
  { federation, number: round, draw }: Pick<RoundRecord, "federation" | "number"> & { draw: Draw },
): Roster {
  const which = { federation: federationId(context, federation), round: round!, number: draw.number };
  return draw.members.map(({ name, commitment, signature }) => {
    const participant = context.objects.participant(name);
    const identity = participant && identityOf(participant);
    // Nobody commits where everybody fits into one cohort.
    const isSame =
      commitment === undefined ||
      (identity && isCommitment(which, bytes(identity), bytes(commitment), bytes(signature!)));
    if (!identity || !isSame)
      throw new Error(`Participant ${name} was deleted, or enrolled anew, after cohorts were drawn`);
    return { participant: name, identity };
  });
}

const bytes = (base64: string) => new Uint8Array(Buffer.from(base64, "base64"));

async function tableOf(file: string, rank: number): Promise<Plan["tensors"]> {
  await using adapter = await openSafetensors(file);
  return tensorTable(adapter.header.tensors, rank);
}

/** Above what any round of this federation carries: the journal may be younger than the objects. */
async function nextNumber(context: Context, federation: string): Promise<number> {
  const used = Math.max(0, ...context.objects.roundsOf(federation).map((round) => round.status.number ?? 0));
  let number = 0;
  while (number <= used) number = await context.journal.increment(`round/${federation}`);
  return number;
}

function resultOf({ plan, planHash }: RoundPlan): Made {
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
