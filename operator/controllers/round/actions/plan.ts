/**
 * Makes, signs and journals a round's plan. Idempotent: a plan that is there already is the plan.
 * Specified: protocol.md "A plan"; the deadlines count from now, each from the start of its phase (api.md).
 */
import { deadlinesMs, type EffectiveSettings } from "../../../api/merge.ts";
import { tensorTable } from "../../../publish/peft.ts";
import { openSafetensors } from "../../../publish/safetensors.ts";
import { compareNames, formatHeader } from "../../../publish/safetensors-header.ts";
import { type Plan, planSchema } from "../../../round/plan.ts";
import type { RoundRecord } from "../../../round/record.ts";
import type { PlanResult, Terms } from "../../../round/world.ts";
import { signPlan } from "../../../transport/plan.ts";
import { generateRoundKeys, sealedLength } from "../../../transport/sealing.ts";
import { shapeProblem } from "../../adapter-shape.ts";
import { type Context, federationId } from "../../context.ts";
import { repositoryOf } from "../../registry.ts";
import { candidatesOf, identityOf } from "../../selector.ts";
import type { ActiveVersion } from "../../versions.ts";
import { planWrites, type RoundPlan, readPlan } from "../stored-plan.ts";

type Made = Extract<PlanResult, { kind: "made" }>;

/** What a delta's header may have beyond the names: metadata and the writer's padding. */
const HEADER_SLACK_BYTES = 64 * 1024;

/** @throws Error with a sentence; PublishFault, which a later try may mend */
export async function makePlan(context: Context, record: RoundRecord, settings: EffectiveSettings): Promise<Made> {
  const known = await readPlan(context.journal, record.uid);
  if (known) return resultOf(known);
  const parent = context.versions.active(record.federation);
  if (!parent) throw new Error("the federation has no active adapter");
  const repository = () => repositoryOf(context.client, context.config.namespace, settings.publish.oci);
  const file = await context.adapters.ensure(parent, repository);
  const tensors = await tableOf(file.file, settings.adapter.rank);
  const problem = shapeProblem(tensors, settings.adapter.targetModules);
  if (problem) throw new Error(`${parent.name}: ${problem}; targetModules cannot change once there is a version`);
  const keys = await generateRoundKeys();
  const number = await nextNumber(context, record.federation);
  const plan = planSchema.parse({
    ...planOf(settings, { ...parent, byteLength: file.byteLength }),
    federation: federationId(context, record.federation),
    round: number,
    roundName: record.name,
    roster: rosterOf(context, settings),
    tensors,
    sealing: { publicKey: Buffer.from(keys.publicKey).toString("base64") },
    deadlines: deadlinesFrom(context.now(), termsOf(settings)),
  } satisfies Plan);
  const { signed, planHash } = signPlan(plan, context.planKey);
  const made: RoundPlan = { plan, planHash, signed, parent, publish: settings.publish };
  await context.journal.commit(planWrites(record.uid, { ...made, privateKey: keys.privateKey }));
  return resultOf(made);
}

export function termsOf(settings: EffectiveSettings): Terms {
  const { accept, training, aggregation } = deadlinesMs(settings.deadlines);
  return {
    minimum: settings.participants.minimum,
    acceptMs: Math.min(accept, training),
    trainingMs: training,
    aggregationMs: aggregation,
  };
}

/** Accept and training both begin with the plan; aggregation begins at the latest when training ends. */
export function deadlinesFrom(nowMs: number, terms: Terms): Plan["deadlines"] {
  const accept = nowMs + terms.acceptMs;
  const training = nowMs + terms.trainingMs;
  return { accept, training, aggregation: training + terms.aggregationMs };
}

function planOf(settings: EffectiveSettings, parent: ActiveVersion) {
  const { baseModel, adapter, training, aggregation } = settings;
  const { rank, alpha, targetModules } = adapter;
  return {
    schema: 2,
    attempt: 1,
    purpose: "delta",
    minimum: settings.participants.minimum,
    baseModel,
    parent: { version: parent.version, digest: parent.adapterDigest, byteLength: parent.byteLength },
    adapter: { rank, alpha, targetModules },
    training,
    aggregation,
  } satisfies Partial<Plan>;
}

function rosterOf(context: Context, settings: EffectiveSettings): Plan["roster"] {
  const invited = candidatesOf(settings.participants.selector, context.objects.participants())
    .filter((candidate) => candidate.enrolled && !candidate.suspended)
    .map(({ name }) => ({ participant: name, identity: identityOf(context.objects.participant(name)!)! }))
    .sort((a, b) => compareNames(a.participant, b.participant));
  if (invited.length > 256)
    throw new Error(`${invited.length} Participants match; a round has at most 256: narrow the selector`);
  return invited;
}

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
  const { accept, training, aggregation } = plan.deadlines;
  return {
    kind: "made",
    number: plan.round,
    hash: Buffer.from(planHash).toString("hex"),
    parentVersion: plan.parent.version,
    parentByteLength: plan.parent.byteLength,
    uploadLimitBytes: sealedLength(plaintextBytes),
    roster: plan.roster.map(({ participant }) => participant),
    minimum: plan.minimum,
    aggregationMs: aggregation - training,
    deadlines: { acceptMs: accept, trainingMs: training, aggregationMs: aggregation },
  };
}
