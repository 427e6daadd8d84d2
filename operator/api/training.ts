/**
 * What every trainer is told (api.md `training`): the fields, a Federation's defaults, a round's overrides, the rules between fields.
 * Holds: what the CEL rules refuse at admission, trainingProblem refuses of a Federation merged with a round's overrides, in the same words.
 * Does not: hold for a site; each decides by its own policy what it runs.
 */
import { z } from "zod";
import { type CelRule, cel, matching } from "./cel.ts";
import { decimalNumber, fraction, nonNegativeDecimal, positiveDecimal, quantity } from "./quantities.ts";

const EXTENDED_RESOURCE = /^[a-z0-9.-]+\/[A-Za-z0-9._-]+$/;

const resourceFields = {
  gpus: z.int().min(0).max(64).describe("GPUs of one trainer, as request and as limit."),
  gpuResourceName: z
    .string()
    .max(128)
    .regex(EXTENDED_RESOURCE)
    .meta(matching(EXTENDED_RESOURCE, "must be the name of an extended resource, such as nvidia.com/gpu"))
    .describe("Extended resource that stands for one GPU."),
  memory: quantity.describe("Memory of one trainer, as request and as limit."),
  cpu: quantity.describe("CPU of one trainer, as request."),
};

const fields = {
  image: z
    .string()
    .min(1)
    .max(512)
    .describe("Trainer image, as a proposal: each site's policy decides which images it runs."),
  task: z
    .enum(["instruction", "completion"])
    .describe(
      "What is learned: instruction writes conversations by the base model's chat template; completion writes prompt and completion as they are, one after the other.",
    ),
  steps: z.int().min(1).max(10_000_000).describe("Optimiser steps of each participant in one round."),
  epochs: positiveDecimal.describe(
    'In place of steps: passes over a participant\'s records in one round, such as "1" or "0.5". The operator then sees progress in per cent, since steps would tell how many records there are.',
  ),
  batchSize: z.int().min(1).max(65_536).describe("Examples that are computed at once."),
  gradientAccumulation: z
    .int()
    .min(1)
    .max(1024)
    .describe("Batches whose gradients are added up to one optimiser step."),
  gradientCheckpointing: z
    .boolean()
    .describe("Computes activations again in the backward pass instead of keeping them: less memory, more time."),
  sequenceLength: z.int().min(8).max(1_048_576).describe("Tokens of one example; longer ones are cut."),
  packing: z
    .boolean()
    .describe("Puts several short examples into one row of sequenceLength tokens; none sees another."),
  onBadRecord: z
    .enum(["fail", "skip"])
    .describe("Whether a record that cannot be read ends the site's training or is counted and left out."),
  learningRate: positiveDecimal.describe("Learning rate of the trainer's optimiser."),
  learningRateSchedule: z
    .enum(["constant", "cosine"])
    .describe("cosine: the learning rate falls from round to round over rounds.count; it is constant within a round."),
  proximalTerm: nonNegativeDecimal.describe(
    "FedProx: half of this times the squared distance from the parent adapter is added to the loss (its mu); 0 turns it off.",
  ),
  quantization: z
    .enum(["none", "nf4"])
    .describe("nf4: the base model is held in 4 bits (QLoRA); the adapter stays in float32."),
};

const recordPrivacySchema = z.object({
  noiseMultiplier: positiveDecimal.describe("Standard deviation of the noise, as a multiple of maxGradNorm."),
  maxGradNorm: positiveDecimal.describe("Largest L2 norm of one record's gradient over the whole adapter."),
  sampleRate: fraction.describe("Chance with which each record takes part in a step."),
});

/** A round may not override how the privacy of a record is kept. */
export const trainingOverridesSchema = z
  .object({ ...fields, resources: z.object(resourceFields).partial() })
  .partial()
  .meta(cel(["!has(self.steps) || !has(self.epochs)", "either steps or epochs, and not both"]));

export const trainingSchema = z
  .object({
    image: fields.image,
    task: fields.task.default("instruction"),
    steps: fields.steps.optional(),
    epochs: fields.epochs.optional(),
    batchSize: fields.batchSize.default(4),
    gradientAccumulation: fields.gradientAccumulation.default(1),
    gradientCheckpointing: fields.gradientCheckpointing.default(false),
    sequenceLength: fields.sequenceLength.default(512),
    packing: fields.packing.default(false),
    onBadRecord: fields.onBadRecord.default("fail"),
    learningRate: fields.learningRate.default("5e-5"),
    learningRateSchedule: fields.learningRateSchedule.default("constant"),
    proximalTerm: fields.proximalTerm.default("0"),
    quantization: fields.quantization.default("none"),
    recordPrivacy: recordPrivacySchema
      .optional()
      .describe("Record-level differential privacy by DP-SGD at every participant, each within its own budget."),
    resources: z
      .object({
        gpus: resourceFields.gpus.default(1),
        gpuResourceName: resourceFields.gpuResourceName.default("nvidia.com/gpu"),
        memory: resourceFields.memory.default("16Gi"),
        cpu: resourceFields.cpu.default("4"),
      })
      .prefault({})
      .describe("What one trainer asks of its site."),
  })
  .meta(cel(["has(self.steps) != has(self.epochs)", 'needs either steps: 20 or epochs: "1", and not both']));

export type TrainingSettings = z.output<typeof trainingSchema>;

const BESIDE_PRIVACY =
  "training.recordPrivacy goes with neither packing, gradientCheckpointing, proximalTerm nor quantization: each record needs a gradient of its own, and nothing else may go into it; leave them out";
const EPOCHS_PRIVATELY =
  "training.recordPrivacy needs training.steps instead of epochs: with sampling there are no passes over the records";
const COSINE_WITHOUT_END =
  "training.learningRateSchedule cosine needs rounds.count: it falls over that many rounds; set rounds, or use constant";

/** @param spec  the path of a Federation's spec */
export function trainingRules(spec: string): CelRule[] {
  const privacy = `has(${spec}.training.recordPrivacy)`;
  return [
    {
      rule: `!${privacy} || (!${spec}.training.packing && !${spec}.training.gradientCheckpointing && ${spec}.training.quantization == 'none' && double(${spec}.training.proximalTerm) == 0.0)`,
      message: `spec.${BESIDE_PRIVACY}`,
    },
    { rule: `!${privacy} || !has(${spec}.training.epochs)`, message: `spec.${EPOCHS_PRIVATELY}` },
    {
      rule: `${spec}.training.learningRateSchedule != 'cosine' || has(${spec}.rounds)`,
      message: `spec.${COSINE_WITHOUT_END}`,
    },
  ];
}

/** Why no round can train by these settings; undefined where it can. */
export function trainingProblem(training: TrainingSettings, rounds: { count: number } | undefined): string | undefined {
  const { packing, gradientCheckpointing, quantization, proximalTerm } = training;
  const isAlone = !packing && !gradientCheckpointing && quantization === "none" && decimalNumber(proximalTerm) === 0;
  if (training.recordPrivacy && !isAlone) return BESIDE_PRIVACY;
  if (training.recordPrivacy && training.epochs !== undefined) return EPOCHS_PRIVATELY;
  return training.learningRateSchedule === "cosine" && !rounds ? COSINE_WITHOUT_END : undefined;
}

/**
 * The learning rate of one round, which a trainer keeps from its first step to its last.
 * cosine: half a period from the first round to the one after the last (Loshchilov and Hutter 2017, eq. 5, with a minimum of 0).
 * @param before  rounds that the federation has created before this one; more than `count` count as the last
 */
export function learningRateOf(
  { learningRate, learningRateSchedule }: Pick<TrainingSettings, "learningRate" | "learningRateSchedule">,
  rounds: { count: number; before: number } | undefined,
): string {
  if (learningRateSchedule === "constant" || !rounds) return learningRate;
  const share = Math.min(rounds.before, rounds.count - 1) / rounds.count;
  const rate = (decimalNumber(learningRate) * (1 + Math.cos(Math.PI * share))) / 2;
  return String(Number(rate.toPrecision(6)));
}
