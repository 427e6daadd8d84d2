import { expect, test } from "vitest";
import { isOfSchema3 } from "../../../api/planned-training.ts";
import { federation } from "../../../api/testing/objects.ts";
import { plannedTraining } from "./planned-training.ts";

const { training } = federation().spec;

test("a plan that wishes for nothing new is one that older agents know", () => {
  const planned = plannedTraining(training);
  const { image, task, steps, batchSize, sequenceLength, learningRate, resources } = training;
  expect(planned).toEqual({ image, task, steps, batchSize, sequenceLength, learningRate, resources });
  expect(isOfSchema3(planned)).toBe(true);
});

test.each([
  { change: { task: "completion" as const }, says: { task: "completion" } },
  { change: { steps: undefined, epochs: "1.5" }, says: { epochs: "1.5" } },
  { change: { gradientAccumulation: 4 }, says: { gradientAccumulation: 4 } },
  { change: { gradientCheckpointing: true }, says: { gradientCheckpointing: true } },
  { change: { packing: true }, says: { packing: true } },
  { change: { onBadRecord: "skip" as const }, says: { onBadRecord: "skip" } },
  { change: { proximalTerm: "0.01" }, says: { proximalTerm: "0.01" } },
  { change: { quantization: "nf4" as const }, says: { quantization: "nf4" } },
])(
  "what differs from what a trainer does anyway is said, and makes the plan one of schema 4: %o",
  ({ change, says }) => {
    const planned = plannedTraining({ ...training, ...change });
    expect(planned).toMatchObject(says);
    expect(isOfSchema3(planned)).toBe(false);
  },
);

test('a proximal term of "0.0" is none', () => {
  expect(plannedTraining({ ...training, proximalTerm: "0.0" })).not.toHaveProperty("proximalTerm");
});
