/**
 * Fields that a Federation sets and a FederationRound may override, without defaults (api.md).
 * Holds: no schema here has a default; a default in an override would silently replace what the Federation says.
 * Does not: say what is required or what the defaults are (federation.ts does).
 */
import { z } from "zod";
import { cel } from "./cel.ts";
import { duration, positiveDecimal, sha256Digest } from "./quantities.ts";
import { sampleSchema } from "./sample.ts";

export const baseModelSchema = z.object({
  name: z.string().min(1).max(256).describe("Name of the model; goes into adapter_config.json."),
  revision: z.string().min(1).max(128).default("main").describe("Revision of the model under that name."),
  digest: sha256Digest.describe(
    "SHA-256 of what `LC_ALL=C sha256sum *.safetensors` prints in the model's folder. A trainer that finds other weights refuses to start.",
  ),
});

export type BaseModel = z.infer<typeof baseModelSchema>;

const labelText = z.string().max(63);
const labelKey = z.string().min(1).max(317);

const requirementSchema = z
  .object({
    key: labelKey,
    operator: z.enum(["In", "NotIn", "Exists", "DoesNotExist"]),
    values: z.array(labelText).max(64).optional(),
  })
  .meta(
    cel([
      "self.operator in ['In', 'NotIn'] ? has(self.values) && size(self.values) > 0 : !has(self.values) || size(self.values) == 0",
      "In and NotIn need values; Exists and DoesNotExist take none",
    ]),
  );

/** metav1.LabelSelector over the labels of Participants in the same namespace; `{}` chooses all of them. */
export const selectorSchema = z
  .object({
    matchLabels: z.record(labelKey, labelText).meta({ maxProperties: 32 }).optional(),
    matchExpressions: z.array(requirementSchema).max(32).optional(),
  })
  .meta({ "x-kubernetes-map-type": "atomic" });

export type LabelSelector = z.infer<typeof selectorSchema>;

export const participantFields = {
  selector: selectorSchema.describe("Labels of the Participants that are invited; {} invites all of the namespace."),
  sample: sampleSchema
    .optional()
    .describe(
      "Draws participants uniformly for each round, from a seed that its plan shows. Without it, all are invited.",
    ),
  minimum: z
    .int()
    .min(1)
    .max(256)
    .describe(
      "Quorum: with fewer contributions the round fails. Secure aggregation fails below its threshold, where that is higher.",
    ),
};

/** Attempts after the first. */
export const retriesField = z
  .int()
  .min(0)
  .max(5)
  .describe(
    "Secure: how often a round plans again without those who were lost, after keys were shared. Removing members before that is free.",
  );

export const deadlineFields = {
  accept: duration.describe(
    "From the start of planning until the plan is accepted and the trainer's pod is scheduled.",
  ),
  training: duration.describe("From the start of the phase until the trainer has handed its adapter back."),
  aggregation: duration.describe("From the end of training until every contribution is uploaded and summed."),
};

export const aggregationFields = {
  weighting: z
    .enum(["examples", "uniform"])
    .describe("Whether a participant counts by its examples (up to exampleCap) or all count the same."),
  exampleCap: z
    .int()
    .min(1)
    .max(2 ** 31 - 1)
    .describe("Examples that give full weight; more give no more."),
  clipNorm: positiveDecimal.describe(
    "Largest L2 norm of a participant's delta over all tensors; longer ones are shortened to it.",
  ),
  ring: z
    .enum(["u32", "u16"])
    .describe("Secure: bits of one masked number. u16 halves what is uploaded and rounds more coarsely."),
  cohortSize: z
    .int()
    .min(6)
    .max(128)
    .describe(
      "Secure: more participants than this are split into cohorts by a draw that nobody steers; each is summed for itself.",
    ),
};
