/**
 * Participant: one member of the namespace's federations (api.md).
 * Holds: an identity once recorded changes only together with a higher enrolment.
 * Does not: hold join tokens; only a hash of one is in an annotation.
 */
import { z } from "zod";
import { cel, matching } from "./cel.ts";
import { conditionsSchema } from "./conditions.ts";
import { objectMetaSchema } from "./metadata.ts";
import { instant } from "./quantities.ts";
import { AGE, API_VERSION, nameRule, type ResourceDefinition } from "./resource.ts";

/** SHA-256 of the join token, in hexadecimal. */
export const JOIN_TOKEN_HASH_ANNOTATION = "rondo.dev/join-token-sha256";
/** RFC 3339. */
export const JOIN_TOKEN_EXPIRES_ANNOTATION = "rondo.dev/join-token-expires";

const ED25519 = /^[A-Za-z0-9+/]{43}=$/;
const enrolmentNumber = z.int().min(1).max(1_000_000);

const identitySchema = z.object({
  ed25519: z
    .string()
    .max(44)
    .regex(ED25519)
    .meta(matching(ED25519, "must be the 32 bytes of an Ed25519 public key in base64"))
    .describe("The site's public key, in base64."),
  enrolment: enrolmentNumber.describe("The enrolment in which this key was recorded."),
});

const NO_IDENTITY = "!has(self.identity)";

export const participantSpecSchema = z
  .object({
    displayName: z.string().max(128).optional().describe("For people."),
    enrolment: enrolmentNumber.default(1).describe("Raise it to let the site enrol anew, after a lost or stolen key."),
    identity: identitySchema.optional().describe("Set by enrolment, or by people before it."),
    suspended: z.boolean().default(false).describe("Cuts the site off at once and keeps it out of new rounds."),
  })
  .meta(
    cel(
      ["self.enrolment >= oldSelf.enrolment", "spec.enrolment can only rise, or an old key could come back"],
      [
        `${NO_IDENTITY} || self.identity.enrolment <= self.enrolment`,
        "spec.identity.enrolment cannot be above spec.enrolment; raise spec.enrolment first",
      ],
      [
        "!has(oldSelf.identity) || has(self.identity)",
        "spec.identity cannot be removed; raise spec.enrolment to let the site enrol anew",
      ],
      [
        `${NO_IDENTITY} || (has(oldSelf.identity) && self.identity == oldSelf.identity) || (self.identity.enrolment == self.enrolment && (!has(oldSelf.identity) || self.identity.enrolment > oldSelf.identity.enrolment))`,
        "spec.identity changes only to a higher enrolment that equals spec.enrolment; raise spec.enrolment first",
      ],
    ),
  );

const statusSchema = z.object({
  observedGeneration: z
    .int()
    .default(-1)
    .describe("metadata.generation that this status speaks of; -1: nobody has looked."),
  connected: z.boolean().optional(),
  lastSeen: instant.optional(),
  agentVersion: z.string().max(64).optional(),
  capacity: z
    .object({ gpus: z.int().min(0), gpuResourceName: z.string().max(128) })
    .optional()
    .describe("What the site says it can give to one trainer."),
  certificate: z.object({ notAfter: instant }).optional(),
  conditions: conditionsSchema.optional(),
});

export const participantSchema = z.object({
  apiVersion: z.literal(API_VERSION),
  kind: z.literal("Participant"),
  metadata: objectMetaSchema,
  spec: participantSpecSchema
    // Written out: the API server evaluates the rules on this default before it fills in nested ones.
    .prefault({ enrolment: 1, suspended: false }),
  status: statusSchema.prefault({ observedGeneration: -1 }),
});

export type Participant = z.output<typeof participantSchema>;
export type ParticipantSpec = Participant["spec"];
export type ParticipantStatus = Participant["status"];
export type ParticipantIdentity = NonNullable<ParticipantSpec["identity"]>;

/** What a status says but for the time that passes: two that differ in no more are no transition. */
export function withoutLastSeen({ lastSeen: _, ...others }: Partial<ParticipantStatus>): Partial<ParticipantStatus> {
  return others;
}

export const participantResource: ResourceDefinition = {
  kind: "Participant",
  plural: "participants",
  singular: "participant",
  shortNames: ["part"],
  description: "One member: a site with an agent of its own.",
  schema: participantSchema,
  columns: [
    { name: "Enrolled", type: "string", jsonPath: '.status.conditions[?(@.type=="Enrolled")].status' },
    { name: "Connected", type: "boolean", jsonPath: ".status.connected" },
    { name: "GPUs", type: "integer", jsonPath: ".status.capacity.gpus" },
    { name: "Suspended", type: "boolean", jsonPath: ".spec.suspended" },
    AGE,
    { name: "Last Seen", type: "date", jsonPath: ".status.lastSeen", priority: 1 },
    { name: "Agent", type: "string", jsonPath: ".status.agentVersion", priority: 1 },
    { name: "Certificate Until", type: "string", jsonPath: ".status.certificate.notAfter", priority: 1 },
  ],
  rules: [nameRule(22, "its Jobs are named <round>-<name>-<attempt>")],
};
