import { expect, test } from "vitest";
import type { TrainerReport } from "./assignment.ts";
import type { Assignment } from "./record.ts";
import { StatusReporter } from "./status-reporter.ts";

test("the operator is told the plan's number of steps, not the trainer's, which may follow from how many examples there are", () => {
  const told: TrainerReport[] = [];
  const reporter = new StatusReporter({ status: (_, report) => void told.push(report) }, 40);
  const training = { state: { kind: "Training" } } as Assignment;
  reporter.progressed({ step: 7, steps: 1234 });
  reporter.tell(training, { nowMs: 0 });
  reporter.progressed({ step: 1234, steps: 1234 });
  reporter.tell(training, { nowMs: 10_000 });
  expect(told.map(({ step, steps }) => [step, steps])).toEqual([
    [7, 40],
    [40, 40],
  ]);
});

test("where the plan wants epochs the operator is told per cent: how many steps they are tells how many records the site has", () => {
  const told: TrainerReport[] = [];
  const reporter = new StatusReporter({ status: (_, report) => void told.push(report) }, undefined);
  const training = { state: { kind: "Training" } } as Assignment;
  reporter.tell(training, { nowMs: 0 });
  reporter.progressed({ step: 617, steps: 1234 });
  reporter.tell(training, { nowMs: 10_000 });
  reporter.progressed({ step: 1234, steps: 1234 });
  reporter.tell(training, { nowMs: 20_000 });
  expect(told.map(({ step, steps }) => [step, steps])).toEqual([
    [0, 100],
    [50, 100],
    [100, 100],
  ]);
});
