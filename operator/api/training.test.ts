import { expect, test } from "vitest";
import { effectiveSettings } from "./merge.ts";
import { federation } from "./testing/objects.ts";
import { learningRateOf, type TrainingSettings, trainingProblem } from "./training.ts";

const { spec } = federation();
const training = (change: Partial<TrainingSettings>): TrainingSettings => ({ ...spec.training, ...change });
const privacy = { noiseMultiplier: "1.1", maxGradNorm: "1", sampleRate: "0.01" };

test.each([
  { says: "constant, whatever the round", schedule: "constant", before: 7, rate: "0.0001" },
  { says: "cosine in the first of ten rounds", schedule: "cosine", before: 0, rate: "0.0001" },
  { says: "cosine half-way", schedule: "cosine", before: 5, rate: "0.00005" },
  { says: "cosine in the last round, which is not at zero", schedule: "cosine", before: 9, rate: "0.00000244717" },
  {
    says: "cosine in a round that was made by hand after the last",
    schedule: "cosine",
    before: 12,
    rate: "0.00000244717",
  },
] as const)("the learning rate of a round: $says", ({ schedule, before, rate }) => {
  const settings = training({ learningRate: "1e-4", learningRateSchedule: schedule });
  const found = learningRateOf(settings, { count: 10, before });
  expect(Number(found)).toBeCloseTo(Number(rate), 10);
  expect(found).toMatch(/^(0|[1-9][0-9]*)(\.[0-9]+)?(e-?[0-9]+)?$/);
});

test("without a schedule the learning rate is the one that was written, digit for digit", () => {
  expect(learningRateOf(training({ learningRate: "5.0e-05" }), undefined)).toBe("5.0e-05");
});

test.each([
  ...[
    { packing: true },
    { gradientCheckpointing: true },
    { proximalTerm: "0.1" },
    { quantization: "nf4" as const },
  ].map((more) => ({
    says: `${Object.keys(more)[0]} with record-level privacy`,
    change: { ...more, recordPrivacy: privacy },
    why: "leave them out",
  })),
  {
    says: "epochs with record-level privacy",
    change: { epochs: "1", recordPrivacy: privacy },
    why: "instead of epochs",
  },
  { says: "cosine without an end", change: { learningRateSchedule: "cosine" as const }, why: "needs rounds.count" },
])("settings under which nobody can train: $says", ({ change, why }) => {
  expect(trainingProblem(training(change), undefined)).toContain(why);
  expect(trainingProblem(training({}), undefined)).toBeUndefined();
});

test("a round's epochs take the place of the federation's steps, and the other way round", () => {
  const { steps: _steps, ...rest } = spec.training;
  const byEpochs = { ...spec, training: { ...rest, epochs: "2" } };
  expect(effectiveSettings(spec, { training: { epochs: "0.5" } }).training).toEqual({ ...rest, epochs: "0.5" });
  expect(effectiveSettings(byEpochs, { training: { steps: 7 } }).training).toEqual({ ...rest, steps: 7 });
  expect(effectiveSettings(byEpochs, { training: { batchSize: 9 } }).training).toEqual({
    ...rest,
    epochs: "2",
    batchSize: 9,
  });
});
