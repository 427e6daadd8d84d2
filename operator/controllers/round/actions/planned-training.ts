/** What a plan says of training: only what differs from what a trainer does anyway (api/planned-training.ts). Pure. */
import { decimalNumber } from "../../../api/quantities.ts";
import type { TrainingSettings } from "../../../api/training.ts";
import type { Plan } from "../../../round/plan.ts";

export function plannedTraining(settings: TrainingSettings): Plan["training"] {
  const { image, task, steps, epochs, batchSize, sequenceLength, learningRate, recordPrivacy, resources } = settings;
  const { gradientAccumulation, gradientCheckpointing, packing, onBadRecord, proximalTerm, quantization } = settings;
  return {
    image,
    task,
    ...(steps !== undefined && { steps }),
    ...(epochs !== undefined && { epochs }),
    batchSize,
    sequenceLength,
    learningRate,
    ...(gradientAccumulation > 1 && { gradientAccumulation }),
    ...(gradientCheckpointing && { gradientCheckpointing }),
    ...(packing && { packing }),
    ...(onBadRecord !== "fail" && { onBadRecord }),
    ...(decimalNumber(proximalTerm) > 0 && { proximalTerm }),
    ...(quantization !== "none" && { quantization }),
    ...(recordPrivacy && { recordPrivacy }),
    resources,
  };
}
