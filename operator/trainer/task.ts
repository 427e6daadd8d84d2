/**
 * What a trainer is told and what it must answer (docs of the trainer contract: operator/trainer/README.md).
 * Holds: a trainer is not trusted: everything it sends is parsed here and nothing unknown is kept.
 * Does not: serve it (task-server.ts) or judge the adapter's content (agent/delta.ts).
 */
import { z } from "zod";
import { decimal, trainingSchema } from "../api/planned-training.ts";

const text = (max: number) => z.string().min(1).max(max);
const count = z.int().min(0).max(Number.MAX_SAFE_INTEGER);
const sha256 = z.string().regex(/^sha256:[0-9a-f]{64}$/, "is not sha256:<64 hex digits>");

export const taskKinds = ["train", "evaluate", "initialise"] as const;
export type TaskKind = (typeof taskKinds)[number];

export const taskSchema = z.strictObject({
  schema: z.literal(1),
  kind: z.enum(taskKinds),
  /** `<trust domain>/<namespace>/<Federation name>` */
  federation: text(400),
  /** status.number of the round; 0 in `initialise` and in an evaluation that a site asks for itself. */
  round: count,
  attempt: z.int().min(1).max(1000),
  participant: text(63),
  /** From the agent, the same for every attempt of one round; below 2^48, exact in JSON. */
  seed: count,
  baseModel: z.strictObject({ name: text(256), revision: text(128), digest: sha256 }),
  adapter: z.strictObject({
    rank: z.int().min(1).max(1024),
    alpha: z.int().min(1).max(65_536),
    targetModules: z.array(text(128)).min(1).max(64),
    /** alpha / rank: what PEFT multiplies B·A with. */
    scaling: z.number().positive(),
  }),
  /** null in `initialise`, which trains nothing. */
  training: trainingSchema({}).nullable(),
  /** Already scheduled for this round. */
  learningRate: decimal.nullable(),
  frozen: z.enum(["A", "B"]).nullable(),
  /** DP-SGD, within the site's budget for its records; null: none. */
  recordPrivacy: z
    .strictObject({
      noiseMultiplier: decimal,
      maxGradNorm: decimal,
      sampleRate: decimal,
      budget: z.strictObject({ epsilon: decimal, delta: decimal }),
      /** By other rounds at this site, of whatever federation. */
      spent: z
        .array(z.strictObject({ noiseMultiplier: decimal, sampleRate: decimal, steps: z.int().min(1) }))
        .max(10_000),
    })
    .nullable(),
  /** Milliseconds since 1970 by the agent's clock. */
  deadline: count,
});
export type Task = z.infer<typeof taskSchema>;

export const progressSchema = z.object({
  step: count,
  steps: count,
  loss: z.number().nullish(),
  tokensPerSecond: z.number().nullish(),
});
export type Progress = z.infer<typeof progressSchema>;

const share = z.number().min(0).max(1);
const qualitySchema = z.object({ exactMatch: share, rougeL: share });

const heldOutSchema = z.object({
  tokens: count,
  parentLoss: z.number().nullish(),
  loss: z.number().nullish(),
  /** Of an `evaluate` task: how near generated answers come to their references. */
  answers: z.object({ count, parent: qualitySchema, candidate: qualitySchema }).nullish(),
});

/** `z.object`, not strict: a newer trainer may say more than we read; what we do not know is dropped. */
export const resultSchema = z.object({
  schema: z.literal(1),
  examples: count,
  steps: count,
  tokens: count,
  trainLoss: z.number().nullish(),
  heldOut: heldOutSchema.nullish(),
  /** epsilon: of all rounds at this site up to this one, at the budget's delta. */
  recordPrivacy: z.object({ epsilon: z.number().min(0), delta: z.number().gt(0).lt(1) }).nullish(),
  adapterSha256: z
    .string()
    .regex(/^(sha256:)?[0-9a-f]{64}$/)
    .nullish(),
  seconds: z.number().min(0).nullish(),
  peakGpuBytes: count.nullish(),
});
export type Result = z.infer<typeof resultSchema>;
export type HeldOut = z.infer<typeof heldOutSchema>;

/** Where the `Job` mounts what its trainer needs (job.ts) and where trainers look for it. */
export const taskPaths = { ca: "/rondo/task/ca.crt", token: "/rondo/task/token", out: "/rondo/out" } as const;

/** `adapterSha256` with or without the algorithm's name, as hex. */
export function digestHex(digest: string): string {
  return digest.replace(/^sha256:/, "");
}
