/**
 * Federation: who trains what together, under which rules (api.md).
 * Holds: the base model and the rank stay as they are while an adapter is active; who writes nothing about privacy gets secure.
 * Does not: accept fields whose feature does not exist yet; the API server refuses them.
 */
import { z } from "zod";
import { matching } from "./cel.ts";
import { conditionsSchema } from "./conditions.ts";
import { aggregationFields, baseModelSchema, deadlineFields, participantFields, retriesField } from "./fields.ts";
import { objectMetaSchema } from "./metadata.ts";
import { pause, positiveDecimal, sha256Digest } from "./quantities.ts";
import { AGE, API_VERSION, nameRule, type ResourceDefinition } from "./resource.ts";
import { minimumRule, overselectRule } from "./sample.ts";
import { trainingRules, trainingSchema } from "./training.ts";

const REPOSITORY = /^[a-z0-9.-]+(:[0-9]{1,5})?(\/[a-z0-9]+([._-]+[a-z0-9]+)*)+$/;

const adapterSchema = z.object({
  rank: z.int().min(1).max(1024).default(8).describe("LoRA rank; the same for every version."),
  alpha: z.int().min(1).max(65_536).default(16).describe("LoRA alpha; the adapter is scaled by alpha / rank."),
  targetModules: z
    .array(z.string().min(1).max(128))
    .min(1)
    .max(64)
    .meta({ "x-kubernetes-list-type": "set" })
    .default(["q_proj", "v_proj"])
    .describe("Names of the linear layers that get an adapter."),
  initialFrom: z
    .object({
      reference: z
        .string()
        .min(1)
        .max(512)
        .describe("OCI reference (tag or digest) of a PEFT adapter for the same base model, rank and modules."),
    })
    .optional()
    .describe("Start from this adapter. Without it version 0 is a fresh adapter that changes nothing."),
});

const deadlinesSchema = z.object({
  accept: deadlineFields.accept.default("15m"),
  training: deadlineFields.training.default("2h"),
  aggregation: deadlineFields.aggregation.default("10m"),
});

const aggregationSchema = z.object({
  privacy: z
    .enum(["secure", "trusted"])
    .default("secure")
    .describe(
      "secure: the operator learns the sum of a cohort's deltas and nothing of one participant. trusted: each delta is sealed to the operator, which sees it.",
    ),
  rule: z.enum(["mean"]).default("mean").describe("How the deltas become one."),
  lora: z.enum(["average"]).default("average").describe("average: the A and B matrices are averaged each."),
  weighting: aggregationFields.weighting.default("examples"),
  exampleCap: aggregationFields.exampleCap.default(1000),
  clipNorm: aggregationFields.clipNorm.default("1.0"),
  ring: aggregationFields.ring.default("u32"),
  cohortSize: aggregationFields.cohortSize.default(64),
});

const ociSchema = z.object({
  repository: z
    .string()
    .max(256)
    .regex(REPOSITORY)
    .meta(
      matching(
        REPOSITORY,
        "must be registry/repository in lower case without scheme, tag or digest, such as registry.example/adapters/clinic-notes",
      ),
    )
    .describe("Where every version is pushed."),
  credentialsSecretRef: z
    .object({ name: z.string().min(1).max(253) })
    .optional()
    .describe("Secret of type kubernetes.io/dockerconfigjson in the same namespace."),
  plainHTTP: z
    .boolean()
    .default(false)
    .describe("Speak HTTP without TLS to this registry; for registries on test networks."),
});

const stopWhenSchema = z.object({
  metric: z
    .enum(["trainLoss"])
    .describe("trainLoss: the mean loss in training over all contributors, as status.metrics of the round shows it."),
  atMost: positiveDecimal.describe("No further round once a round's metric is at or below this."),
});

const roundsSchema = z.object({
  count: z.int().min(1).max(99_999).describe("Rounds to run, one after the other."),
  interval: pause.default("0s").describe("Pause from the end of a round to the next one."),
  historyLimit: z
    .int()
    .min(1)
    .max(1000)
    .default(10)
    .describe(
      "Ended rounds that stay; older ones that this federation created are deleted. Adapters and hand-made rounds stay.",
    ),
  maxFailures: z
    .int()
    .min(1)
    .max(100)
    .default(3)
    .describe("After so many failed rounds in a row no further one is created until this spec changes."),
  stopWhen: stopWhenSchema.optional().describe("Ends the federation's rounds before count is reached."),
});

export const federationSpecSchema = z.object({
  baseModel: baseModelSchema.describe("The model that everybody has already; Rondo never moves it."),
  adapter: adapterSchema.prefault({}).describe("Shape of the LoRA adapter."),
  training: trainingSchema.describe("What every trainer is told."),
  participants: z
    .object({
      selector: participantFields.selector,
      sample: participantFields.sample,
      minimum: participantFields.minimum,
    })
    .describe("Who takes part."),
  deadlines: deadlinesSchema.prefault({}).describe("How long each phase may last; it ends then, whatever has arrived."),
  retries: retriesField.default(1),
  aggregation: aggregationSchema.prefault({}).describe("How contributions become one adapter."),
  publish: z.object({ oci: ociSchema }).describe("Where adapters go."),
  rounds: roundsSchema
    .optional()
    .describe("Lets the federation create its rounds. Without it, people or pipelines create FederationRounds."),
  suspend: z
    .boolean()
    .default(false)
    .describe("Starts no round while true; a round that has begun goes on to its end."),
});

const statusSchema = z.object({
  observedGeneration: z
    .int()
    .default(-1)
    .describe("metadata.generation that this status speaks of; -1: nobody has looked."),
  conditions: conditionsSchema.optional(),
  activeAdapter: z
    .object({
      version: z.int().min(0),
      name: z.string().max(63).describe("Name of the AdapterVersion."),
      digest: sha256Digest.describe("Digest of the OCI manifest."),
      reference: z.string().max(512).describe("repository@digest"),
    })
    .optional()
    .describe("The adapter that the next round starts from."),
  rounds: z
    .object({
      succeeded: z.int().min(0).default(0),
      failed: z.int().min(0).default(0),
      cancelled: z.int().min(0).default(0),
      current: z.string().max(63).optional().describe("Name of the FederationRound that runs now."),
    })
    .optional()
    .describe("All rounds there ever were, those too that are deleted by now."),
});

export const federationSchema = z.object({
  apiVersion: z.literal(API_VERSION),
  kind: z.literal("Federation"),
  metadata: objectMetaSchema,
  spec: federationSpecSchema,
  status: statusSchema.prefault({ observedGeneration: -1 }),
});

export type Federation = z.output<typeof federationSchema>;
export type FederationSpec = Federation["spec"];
/** As people write it: without what has a default. */
export type FederationSpecInput = z.input<typeof federationSpecSchema>;
export type FederationStatus = Federation["status"];
export type ActiveAdapter = NonNullable<FederationStatus["activeAdapter"]>;

const SUM_OF_TOO_FEW =
  "with aggregation.privacy secure spec.participants.minimum must be at least 3, because a sum of fewer tells on its members; raise it, or write `privacy: trusted` if the operator may see each participant's delta";

const IS_ACTIVE = "has(self.status) && has(self.status.activeAdapter)";
const AFTER_ACTIVATION =
  "while status.activeAdapter exists, because earlier versions would not fit; create a new Federation instead";

export const federationResource: ResourceDefinition = {
  kind: "Federation",
  plural: "federations",
  singular: "federation",
  shortNames: ["fed"],
  description: "Who trains what together, under which rules.",
  schema: federationSchema,
  columns: [
    { name: "Ready", type: "string", jsonPath: '.status.conditions[?(@.type=="Ready")].status' },
    { name: "Version", type: "integer", jsonPath: ".status.activeAdapter.version", description: "Active adapter" },
    { name: "Succeeded", type: "integer", jsonPath: ".status.rounds.succeeded" },
    { name: "Failed", type: "integer", jsonPath: ".status.rounds.failed" },
    { name: "Current", type: "string", jsonPath: ".status.rounds.current", description: "Round that runs now" },
    AGE,
    { name: "Model", type: "string", jsonPath: ".spec.baseModel.name", priority: 1 },
    { name: "Reference", type: "string", jsonPath: ".status.activeAdapter.reference", priority: 1 },
    { name: "Message", type: "string", jsonPath: '.status.conditions[?(@.type=="Ready")].message', priority: 1 },
  ],
  rules: [
    nameRule(24, "its rounds are named <name>-r<number> and their Jobs after them"),
    {
      rule: `!(${IS_ACTIVE}) || self.spec.baseModel == oldSelf.spec.baseModel`,
      message: `spec.baseModel cannot change ${AFTER_ACTIVATION}`,
    },
    {
      rule: `!(${IS_ACTIVE}) || self.spec.adapter.rank == oldSelf.spec.adapter.rank`,
      message: `spec.adapter.rank cannot change ${AFTER_ACTIVATION}`,
    },
    {
      rule: "self.spec.aggregation.privacy != 'secure' || self.spec.participants.minimum >= 3",
      message: SUM_OF_TOO_FEW,
    },
    minimumRule("self.spec.participants"),
    overselectRule("self.spec"),
    ...trainingRules("self.spec"),
  ],
};
