/**
 * What a trainer's exit code means (sysexits' numbers, as the trainer contract lists them), in sentences for a round's status.
 * Holds: 64–78 are the task's or the data's fault, so that a Job with such a code is not tried again.
 */
export const NO_RETRY_FIRST = 64;
export const NO_RETRY_LAST = 78;

const meanings: Record<number, { reason: string; message: string }> = {
  64: {
    reason: "TaskNotUnderstood",
    message: "the trainer image does not understand this task; use an image of the agent's version",
  },
  65: {
    reason: "DataMalformed",
    message: "the training data is empty or malformed; the trainer's log at the site names the line",
  },
  66: {
    reason: "DataMissing",
    message: "the training data or the base model is missing; check the volumes of the site's pod template",
  },
  69: {
    reason: "BaseModelDigestMismatch",
    message: "the base model at the site has another digest than the plan asks for",
  },
  70: { reason: "TrainingDiverged", message: "training diverged: the loss is no longer a finite number" },
  76: {
    reason: "DeliveryRefused",
    message: "the agent refused what the trainer handed back; the trainer's log at the site says why",
  },
  77: { reason: "PrivacyBudgetSpent", message: "the site's privacy budget forbids this training" },
};

/** @param exitCode  of the container, 1…255 */
export function exitMeaning(exitCode: number): { reason: string; message: string } {
  const known = meanings[exitCode];
  if (known) return { reason: known.reason, message: `${known.message} (exit code ${exitCode})` };
  if (exitCode >= NO_RETRY_FIRST && exitCode <= NO_RETRY_LAST) {
    return {
      reason: "TaskRefused",
      message: `the trainer says that the task or the data is wrong (exit code ${exitCode})`,
    };
  }
  const signal = exitCode > 128 && exitCode < 160 ? `, signal ${exitCode - 128}` : "";
  return {
    reason: "TrainerCrashed",
    message: `the trainer ended with exit code ${exitCode}${signal}; its log at the site says why`,
  };
}
