/**
 * How a plan wants training done, as it signs it and as task.json hands it on to the trainer.
 * Holds: what is not written is off, and nothing that is off can be written: equal wishes are equal bytes, and a plan that wishes for
 *   nothing new is the plan that older agents know.
 * Does not: say who may wish for it (api/training.ts) or what a site allows (agent/policy.ts).
 */
import { z } from "zod";

export const decimal = z.string().regex(/^-?(0|[1-9][0-9]*)(\.[0-9]+)?(e-?[0-9]+)?$/, "is not a decimal string");

const shape = {
  task: z.enum(["instruction", "completion"]),
  /** Either steps or epochs. */
  steps: z.int().min(1).max(10_000_000).optional(),
  epochs: decimal.optional(),
  batchSize: z.int().min(1).max(65_536),
  sequenceLength: z.int().min(8).max(1_048_576),
  learningRate: decimal,
  gradientAccumulation: z.int().min(2).max(1024).optional(),
  gradientCheckpointing: z.literal(true).optional(),
  packing: z.literal(true).optional(),
  onBadRecord: z.literal("skip").optional(),
  proximalTerm: decimal.optional(),
  quantization: z.literal("nf4").optional(),
};

/** With `more` beside it. */
export function trainingSchema<More extends z.ZodRawShape>(more: More) {
  return z
    .strictObject({ ...shape, ...more })
    .refine((training) => "steps" in training !== "epochs" in training, "needs either steps or epochs");
}

const trainerTraining = trainingSchema({});
export type Training = z.infer<typeof trainerTraining>;

/** What plans of schema 3 could say. */
const IN_SCHEMA_3 = ["task", "steps", "batchSize", "sequenceLength", "learningRate", "image", "resources"];

export function isOfSchema3(training: { task: string }): boolean {
  const isKnown = Object.keys(training).every((field) => IN_SCHEMA_3.includes(field));
  return isKnown && training.task === "instruction";
}
