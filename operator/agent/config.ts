/**
 * agent.yaml: what the site decides about its agent. Parsed and checked once, at start; nothing else reads a file or the environment for it.
 * Holds: unknown fields are refused, so that a mistyped rule is not silently no rule.
 */
import { readFileSync } from "node:fs";
import { parse } from "yaml";
import { z } from "zod";
import type { PodTemplate } from "../trainer/job.ts";

const address = z.string().regex(/^(\[[0-9a-fA-F:]+\]|[^:\s]+):[0-9]{1,5}$/, 'is not "host:port"');
const pattern = z.string().min(1).max(512);

/** Whose keys this site masks against (secure-aggregation.md §1); unused in trusted rounds. */
const trustSchema = z
  .strictObject({
    /** `firstUse` holds only if the operator was honest at first contact; `pinned`: only keys that this file lists. */
    mode: z.enum(["firstUse", "pinned"]).default("firstUse"),
    roster: z
      .array(
        z.strictObject({
          federation: pattern.default("*"),
          participant: z.string().min(1).max(63),
          /** Ed25519 public key, 32 bytes. */
          identity: z.string().regex(/^[A-Za-z0-9+/]{43}=$/, "is not 32 bytes in base64"),
        }),
      )
      .max(10_000)
      .default([]),
  })
  .refine(({ mode, roster }) => mode !== "pinned" || roster.length > 0, {
    path: ["roster"],
    message: "lists nobody, and mode pinned masks against nobody else",
  });
export type Trust = z.infer<typeof trustSchema>;

/** Above zero, as a string: floats do not survive every YAML writer. */
const budgetDecimal = z
  .string()
  .regex(
    /^(0|[1-9][0-9]{0,8})(\.[0-9]{1,12})?(e-?[0-9]{1,2})?$/,
    'is not a decimal number in quotes, such as "8" or "1e-6"',
  )
  .refine((text) => Number(text) > 0, "is not above zero");

export const policySchema = z.strictObject({
  /** Identities `<trust domain>/<namespace>/<Federation name>`; `*` stands for any characters. */
  federations: z.array(pattern).min(1),
  /** Trainer images this site runs; `*` stands for any characters. No default: an image is code. */
  images: z.array(pattern).min(1),
  /** Base models by name; `*` stands for any characters. */
  baseModels: z.array(pattern).min(1).default(["*"]),
  /** `secure`: the operator learns sums only; `trusted`: it may see this site's delta (sealed on the way, open at the operator). */
  privacy: z
    .array(z.enum(["secure", "trusted"]))
    .min(1)
    .default(["secure"]),
  /**
   * The smallest cohort whose sum may hold this site's delta, this site counted. What a site can count on against collusion is the column
   * of secure-aggregation.md §4 for this number: 5 withstands two colluding members, 3 withstands one.
   */
  minCohort: z.int().min(3).max(128).default(5),
  /** Rounds from one parent whose sums may hold this site's delta: their difference tells what changed between them. */
  releasesPerParent: z.int().min(1).max(1000).default(3),
  trust: trustSchema.prefault({}),
  /** The smallest number of invited participants, this one counted. */
  minParticipants: z.int().min(1).max(256).default(2),
  gpus: z.strictObject({ max: z.int().min(0).max(64) }),
  /**
   * What all rounds together, of whatever federation, may spend of the privacy of this site's records (DP-SGD). Without it no plan with
   * training.recordPrivacy is accepted; with it a trainer that would spend more refuses.
   */
  recordPrivacy: z.strictObject({ epsilon: budgetDecimal, delta: budgetDecimal }).optional(),
  /** Whether the last lines of a failed trainer's stderr, which may quote data, go to the operator. */
  shareTrainerErrors: z.boolean().default(false),
});
export type SitePolicy = z.infer<typeof policySchema>;

/** Opaque but for being an object: the API server judges a pod template, not this program. */
const podTemplateSchema = z.custom<PodTemplate>(
  (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  "is not a PodTemplateSpec",
);

export const agentConfigSchema = z.strictObject({
  namespace: z.string().min(1).max(63),
  dataDir: z.string().min(1).default("/var/lib/rondo"),
  invitation: z.string().min(1).default("/etc/rondo/invitation/invitation.json"),
  identitySecret: z.string().min(1).max(253).default("rondo-agent-identity"),
  tasks: z
    .strictObject({
      address: address.default("0.0.0.0:8445"),
      service: z.string().min(1).max(63).default("rondo-agent-tasks"),
    })
    .prefault({}),
  metrics: z.strictObject({ address: address.default("0.0.0.0:8080") }).prefault({}),
  policy: policySchema,
  /** Which extended resource the site's GPUs are; told to the operator with `policy.gpus.max` as this site's capacity. */
  gpuResourceName: z.string().min(1).max(128).default("nvidia.com/gpu"),
  podTemplate: podTemplateSchema,
  log: z
    .strictObject({ level: z.enum(["trace", "debug", "info", "warn", "error", "fatal"]).default("info") })
    .prefault({}),
});
export type AgentConfig = z.infer<typeof agentConfigSchema>;

/** @throws Error with one line per wrong field */
export function parseAgentConfig(text: string, name = "agent.yaml"): AgentConfig {
  const parsed = agentConfigSchema.safeParse(parse(text));
  if (parsed.success) return parsed.data;
  const lines = parsed.error.issues.map((issue) => `${name}: ${issue.path.join(".") || "(whole)"}: ${issue.message}`);
  throw new Error(lines.join("\n"));
}

export function readAgentConfig(path: string): AgentConfig {
  return parseAgentConfig(readFileSync(path, "utf8"), path);
}
