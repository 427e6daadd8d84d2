/** The trainer's task.json and Job from the plan and what the agent adds: the seed, and the deadline by its own clock. */

import type { Training } from "../api/planned-training.ts";
import type { Plan } from "../round/plan.ts";
import type { Task } from "../trainer/task.ts";
import type { EnsureJob } from "./jobs.ts";
import type { Assignment } from "./record.ts";

/** @param records  this site's budget and what other rounds have spent of it; only where the plan wants record-level privacy */
export function trainTask(assignment: Assignment, plan: Plan, records?: Records): Task {
  return {
    schema: 1,
    kind: "train",
    federation: plan.federation,
    round: plan.round,
    attempt: beganIn(assignment),
    participant: assignment.participant,
    seed: assignment.seed,
    baseModel: plan.baseModel,
    adapter: adapterOf(plan),
    training: trainingOf(plan),
    learningRate: plan.training.learningRate,
    frozen: null,
    recordPrivacy: plan.training.recordPrivacy && records ? { ...plan.training.recordPrivacy, ...records } : null,
    deadline: assignment.deadlines.trainingMs,
  };
}

/** The Job that trains it: what the site adds, its pod template and the task's access, is not in here. */
export function trainJob(assignment: Assignment, plan: Plan, nowMs: number): Omit<EnsureJob, "template" | "task"> {
  const { federation, roundName: round, participant } = assignment;
  return {
    name: assignment.job,
    image: plan.training.image,
    resources: plan.training.resources,
    labels: { federation, round, participant, attempt: beganIn(assignment), kind: "train" },
    activeDeadlineSeconds: (assignment.deadlines.trainingMs - nowMs) / 1000,
  };
}

export type Records = Pick<NonNullable<Task["recordPrivacy"]>, "budget" | "spent">;

/** A trainer and its Job outlive the attempt in which they began. */
export function beganIn({ began, attempt }: Assignment): number {
  return began ?? attempt;
}

export function trainingOf(plan: Plan): Training {
  const { image: _image, resources: _resources, recordPrivacy: _privacy, ...training } = plan.training;
  return training;
}

export function adapterOf(plan: Plan): Task["adapter"] {
  return { ...plan.adapter, scaling: plan.adapter.alpha / plan.adapter.rank };
}
