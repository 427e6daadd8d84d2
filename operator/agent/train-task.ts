/** The trainer's task.json from the plan and what the agent adds: the seed, and the deadline by its own clock. */
import type { Plan } from "../round/plan.ts";
import type { Task } from "../trainer/task.ts";
import type { Assignment } from "./record.ts";

export function trainTask(assignment: Assignment, plan: Plan): Task {
  const { image: _image, resources: _resources, ...training } = plan.training;
  return {
    schema: 1,
    kind: "train",
    federation: plan.federation,
    round: plan.round,
    attempt: plan.attempt,
    participant: assignment.participant,
    seed: assignment.seed,
    baseModel: plan.baseModel,
    adapter: adapterOf(plan),
    training,
    learningRate: plan.training.learningRate,
    frozen: null,
    recordPrivacy: null,
    deadline: assignment.deadlines.trainingMs,
  };
}

export function adapterOf(plan: Plan): Task["adapter"] {
  return { ...plan.adapter, scaling: plan.adapter.alpha / plan.adapter.rank };
}
