/**
 * AdapterVersion: what a round published (api.md).
 * Holds: spec never changes; the name says federation and version; the reference is by digest.
 */
import { z } from "zod";
import { cel } from "./cel.ts";
import { conditionsSchema } from "./conditions.ts";
import { baseModelSchema } from "./fields.ts";
import { objectMetaSchema } from "./metadata.ts";
import { sha256Digest } from "./quantities.ts";
import { AGE, API_VERSION, type ResourceDefinition } from "./resource.ts";

export function adapterVersionName(federation: string, version: number): string {
  return `${federation}-v${version}`;
}

export const adapterVersionSpecSchema = z
  .object({
    federation: z.string().min(1).max(24),
    version: z.int().min(0).max(999_999),
    parent: z.int().min(0).max(999_999).optional().describe("Version it was computed from; absent for version 0."),
    round: z.string().max(31).optional().describe("FederationRound that made it; absent for version 0."),
    digest: sha256Digest.describe("Digest of the OCI manifest."),
    adapterDigest: sha256Digest.describe("SHA-256 of adapter_model.safetensors."),
    reference: z.string().min(1).max(512).describe("repository@digest, to pull it by."),
    baseModel: baseModelSchema,
    rank: z.int().min(1).max(1024),
    alpha: z.int().min(1).max(65_536),
    contributors: z.int().min(0).max(100_000).describe("Participants whose deltas are in it."),
  })
  .meta(
    cel(
      ["self == oldSelf", "an AdapterVersion cannot change"],
      ["self.reference.endsWith('@' + self.digest)", "spec.reference must end with @ and spec.digest"],
      ["!has(self.parent) || self.parent < self.version", "spec.parent must be an earlier version"],
    ),
  );

const statusSchema = z.object({
  observedGeneration: z
    .int()
    .default(-1)
    .describe("metadata.generation that this status speaks of; -1: nobody has looked."),
  phase: z.enum(["Active", "Superseded"]).optional(),
  conditions: conditionsSchema.optional(),
});

export const adapterVersionSchema = z.object({
  apiVersion: z.literal(API_VERSION),
  kind: z.literal("AdapterVersion"),
  metadata: objectMetaSchema,
  spec: adapterVersionSpecSchema,
  status: statusSchema.prefault({ observedGeneration: -1 }),
});

export type AdapterVersion = z.output<typeof adapterVersionSchema>;
export type AdapterVersionSpec = AdapterVersion["spec"];
export type AdapterVersionStatus = AdapterVersion["status"];
export type AdapterVersionPhase = NonNullable<AdapterVersionStatus["phase"]>;

export const adapterVersionResource: ResourceDefinition = {
  kind: "AdapterVersion",
  plural: "adapterversions",
  singular: "adapterversion",
  shortNames: ["av"],
  description: "An adapter that a round published; immutable.",
  schema: adapterVersionSchema,
  columns: [
    { name: "Federation", type: "string", jsonPath: ".spec.federation" },
    { name: "Version", type: "integer", jsonPath: ".spec.version" },
    { name: "Phase", type: "string", jsonPath: ".status.phase" },
    { name: "Parent", type: "integer", jsonPath: ".spec.parent" },
    AGE,
    { name: "Contributors", type: "integer", jsonPath: ".spec.contributors", priority: 1 },
    { name: "Reference", type: "string", jsonPath: ".spec.reference", priority: 1 },
  ],
  rules: [
    {
      // Not `== federation + '-v' + string(version)`: the estimated length of string() is unbounded, and with it the cost.
      rule: "self.metadata.name.startsWith(self.spec.federation + '-v') && int(self.metadata.name.substring(size(self.spec.federation) + 2)) == self.spec.version",
      message: "metadata.name must be <spec.federation>-v<spec.version>",
    },
  ],
};
