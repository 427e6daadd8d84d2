/**
 * FederationRound: one round, from plan to outcome (api.md).
 * Holds: spec never changes, but for cancel from false to true; overrides have no defaults and require nothing; deadlines in status are absolute.
 * Does not: merge overrides into the Federation's settings (merge.ts), nor decide the next phase (operator/round).
 */
import { z } from "zod";
import { cel, listMap } from "./cel.ts";
import { conditionsSchema } from "./conditions.ts";
import { aggregationFields, deadlineFields, participantFields, retriesField } from "./fields.ts";
import { objectMetaSchema } from "./metadata.ts";
import { instant } from "./quantities.ts";
import { AGE, API_VERSION, nameRule, type ResourceDefinition } from "./resource.ts";
import { minimumRule } from "./sample.ts";
import { trainingOverridesSchema } from "./training.ts";

/** In the order in which a round goes through them; the last three are terminal. */
export const ROUND_PHASES = [
  "Pending",
  "Planning",
  "Training",
  "Aggregating",
  "Publishing",
  "Succeeded",
  "Failed",
  "Cancelled",
] as const;
export type RoundPhase = (typeof ROUND_PHASES)[number];
export type TerminalPhase = "Succeeded" | "Failed" | "Cancelled";

export function isTerminal(phase: RoundPhase | undefined): phase is TerminalPhase {
  return phase === "Succeeded" || phase === "Failed" || phase === "Cancelled";
}

export const PARTICIPANT_STATES = [
  "Invited",
  "Accepted",
  "Refused",
  "Scheduling",
  "Training",
  "Trained",
  "Sharing",
  "Contributed",
  "Excluded",
  "Lost",
  "Failed",
] as const;
export type ParticipantState = (typeof PARTICIPANT_STATES)[number];

/** Longest sentence in a participant's row (api.md). */
export const MESSAGE_MAX = 256;
/** Rows in status.participants; counts is complete beyond it. */
export const LISTED_PARTICIPANTS_MAX = 256;

const OVERRIDES = ["training", "participants", "deadlines", "retries", "aggregation"];

const SPEC_IS_FIXED =
  "a round's spec cannot change, but for cancel from false to true; create a new FederationRound with the wanted settings";
const CANCEL_IS_FINAL =
  "spec.cancel cannot be taken back: the round's trainers have been told; create a new FederationRound to run it again";

export const federationRoundSpecSchema = z
  .object({
    federation: z.string().min(1).max(63).describe("Name of the Federation, in the same namespace."),
    training: trainingOverridesSchema
      .optional()
      .describe("Overrides of the Federation's training, field by field; recordPrivacy is the Federation's alone."),
    participants: z
      .object(participantFields)
      .partial()
      .optional()
      .describe(
        "Overrides of the Federation's participants; a selector replaces the whole selector, a sample the whole sample.",
      ),
    deadlines: z
      .object(deadlineFields)
      .partial()
      .optional()
      .describe("Overrides of the Federation's deadlines, field by field."),
    retries: retriesField.optional(),
    aggregation: z
      .object(aggregationFields)
      .partial()
      .optional()
      .describe("Overrides of the Federation's aggregation; privacy, rule and lora are the Federation's alone."),
    cancel: z
      .boolean()
      .optional()
      .describe(
        "true ends the round as Cancelled and stops its trainers, whatever phase it is in; it cannot be taken back.",
      ),
  })
  .meta(
    cel(
      [unchanged("federation", ...OVERRIDES), SPEC_IS_FIXED],
      ["!has(oldSelf.cancel) || !oldSelf.cancel || (has(self.cancel) && self.cancel)", CANCEL_IS_FINAL],
    ),
  );

/** Field by field: CEL cannot compare objects but for one field. */
function unchanged(...fields: string[]): string {
  return fields
    .map(
      (field) =>
        `has(self.${field}) == has(oldSelf.${field}) && (!has(self.${field}) || self.${field} == oldSelf.${field})`,
    )
    .join(" && ");
}

const participantStatusSchema = z.object({
  name: z.string().min(1).max(63),
  state: z.enum(PARTICIPANT_STATES),
  job: z.string().max(63).optional().describe("Name of the trainer's Job in the participant's cluster."),
  progress: z.string().max(32).optional().describe('Steps done of steps, such as "12/20".'),
  reason: z.string().max(128).optional(),
  message: z.string().max(MESSAGE_MAX).optional(),
  since: instant.optional().describe("When the state was entered."),
});

const planStatusSchema = z.object({
  hash: z.string().max(71).describe("SHA-256 of the signed plan."),
  parentVersion: z.int().min(0),
  participants: z.int().min(0).describe("How many are invited."),
  threshold: z
    .int()
    .min(0)
    .optional()
    .describe(
      "Secure: contributions without which the round fails: minimum, or what opens the largest cohort's sum where that is more.",
    ),
  deadlines: z.object({ accept: instant, training: instant, aggregation: instant }),
});

const byteCount = z.int().min(0).max(Number.MAX_SAFE_INTEGER);

const statusSchema = z.object({
  observedGeneration: z
    .int()
    .default(-1)
    .describe("metadata.generation that this status speaks of; -1: nobody has looked."),
  number: z.int().min(1).optional().describe("Given once, at planning: rising per federation, never reused."),
  phase: z.enum(ROUND_PHASES).optional(),
  attempt: z.int().min(1).optional(),
  plan: planStatusSchema.optional(),
  participants: z
    .array(participantStatusSchema)
    .max(LISTED_PARTICIPANTS_MAX)
    .meta(listMap("name"))
    .optional()
    .describe("At most 256, those that need a person first."),
  counts: z
    .record(z.string().max(16), z.int().min(0))
    .meta({ maxProperties: PARTICIPANT_STATES.length })
    .optional()
    .describe("Participants by state; always complete."),
  contributions: z.string().max(16).optional().describe('Contributions of invited, such as "3/4".'),
  adapter: z
    .object({ version: z.int().min(0), name: z.string().max(63) })
    .optional()
    .describe("What the round published."),
  metrics: z
    .object({
      trainLoss: z.string().max(32).describe("Mean over all contributors, weighted by their tokens."),
      tokens: byteCount.describe("Tokens that were trained on, all contributors together."),
    })
    .optional()
    .describe("Of three contributors or more together; with fewer it would tell on them, and is absent."),
  phaseTimes: z
    .array(z.object({ phase: z.enum(ROUND_PHASES), at: instant }))
    .max(16)
    .meta(listMap("phase"))
    .optional()
    .describe("When each phase was entered, the last time if more than once: a new attempt plans again."),
  bytes: z
    .object({ up: byteCount, down: byteCount })
    .optional()
    .describe("Bytes of adapters and contributions: up from participants, down to them."),
  conditions: conditionsSchema.optional(),
});

export const federationRoundSchema = z.object({
  apiVersion: z.literal(API_VERSION),
  kind: z.literal("FederationRound"),
  metadata: objectMetaSchema,
  spec: federationRoundSpecSchema,
  status: statusSchema.prefault({ observedGeneration: -1 }),
});

export type FederationRound = z.output<typeof federationRoundSchema>;
export type FederationRoundSpec = FederationRound["spec"];
export type FederationRoundStatus = FederationRound["status"];
export type ParticipantStatusRow = z.output<typeof participantStatusSchema>;
export type PlanStatus = z.output<typeof planStatusSchema>;

export const federationRoundResource: ResourceDefinition = {
  kind: "FederationRound",
  plural: "federationrounds",
  singular: "federationround",
  shortNames: ["fr"],
  description: "One round of a federation, from plan to outcome.",
  schema: federationRoundSchema,
  columns: [
    { name: "Federation", type: "string", jsonPath: ".spec.federation" },
    { name: "Phase", type: "string", jsonPath: ".status.phase" },
    { name: "Contributions", type: "string", jsonPath: ".status.contributions" },
    { name: "Adapter", type: "string", jsonPath: ".status.adapter.name" },
    AGE,
    { name: "Attempt", type: "integer", jsonPath: ".status.attempt", priority: 1 },
    { name: "Parent", type: "integer", jsonPath: ".status.plan.parentVersion", priority: 1 },
    { name: "Message", type: "string", jsonPath: '.status.conditions[?(@.type=="Succeeded")].message', priority: 1 },
  ],
  rules: [nameRule(31, "its Jobs are named <name>-<participant>-<attempt>"), minimumRule("self.spec.participants")],
};
