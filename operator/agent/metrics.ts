/**
 * Metrics of the agent, for the site's own Prometheus. Labels are closed sets, but for `job` of a trainer that runs now: its series go with it.
 */
import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import type { Progress } from "../trainer/task.ts";
import type { EndKind } from "./record.ts";

/** RELEASED; a failed check or a rule of the site; called off, or over before this site had released anything. */
export type SessionEndKind = "Released" | "Aborted" | "Cancelled";

export interface AgentMetrics {
  ended(kind: string): void;
  open(count: number): void;
  connected(is: boolean): void;
  sessionEnded(end: SessionEndKind): void;
  masked(seconds: number): void;
  /** @param job  metadata.name of the trainer's Job */
  training(job: string, progress: Progress): void;
  /** Its trainer does not run any more. */
  trained(job: string): void;
}

const ends: readonly EndKind[] = ["Contributed", "Refused", "Failed", "Cancelled"];

export function agentMetrics(registry: Registry): AgentMetrics {
  const registers = [registry];
  const ended = new Counter({
    name: "rondo_agent_assignments_total",
    help: "Assignments that ended, by how",
    labelNames: ["end"],
    registers,
  });
  for (const end of ends) ended.inc({ end }, 0);
  const open = new Gauge({ name: "rondo_agent_assignments_open", help: "Assignments under way", registers });
  const connected = new Gauge({
    name: "rondo_agent_connected",
    help: "1 while the control stream to the operator lives",
    registers,
  });
  const sessions = new Counter({
    name: "rondo_agent_secagg_sessions_total",
    help: "Sessions of secure aggregation that ended, by how; Aborted means that a check failed, and the site's Events say which",
    labelNames: ["end"],
    registers,
  });
  const sessionEnds: readonly SessionEndKind[] = ["Released", "Aborted", "Cancelled"];
  for (const end of sessionEnds) sessions.inc({ end }, 0);
  const masking = new Histogram({
    name: "rondo_agent_secagg_masking_seconds",
    help: "Quantising and masking the delta, until the vector is on disk",
    // 20 MiB and five members to 1 GB and 128 members.
    buckets: [0.1, 0.3, 1, 3, 10, 30, 100],
    registers,
  });
  const trainer = trainerMetrics(registers);
  return {
    ...trainer,
    sessionEnded: (end) => sessions.inc({ end }),
    masked: (seconds) => masking.observe(seconds),
    ended: (kind) => ended.inc({ end: kind }),
    open: (count) => open.set(count),
    connected: (is) => connected.set(is ? 1 : 0),
  };
}

function trainerMetrics(registers: Registry[]): Pick<AgentMetrics, "training" | "trained"> {
  const gauge = (name: string, help: string) =>
    new Gauge({ name: `rondo_agent_trainer_${name}`, help, labelNames: ["job"], registers });
  const step = gauge("step", "Optimiser steps that a running trainer has done");
  const steps = gauge("steps", "Optimiser steps that a running trainer will do");
  const loss = gauge("loss_nats", "Mean loss of a running trainer's newest step, in nats per token");
  const speed = gauge("tokens_per_second", "Tokens with loss that a running trainer learns from in a second");
  return {
    training(job, progress) {
      step.set({ job }, progress.step);
      steps.set({ job }, progress.steps);
      if (Number.isFinite(progress.loss)) loss.set({ job }, progress.loss!);
      if (Number.isFinite(progress.tokensPerSecond)) speed.set({ job }, progress.tokensPerSecond!);
    },
    trained(job) {
      for (const each of [step, steps, loss, speed]) each.remove({ job });
    },
  };
}
