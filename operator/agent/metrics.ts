/** Metrics of the agent. Labels are closed sets: nothing per participant, no counts, losses or norms. */
import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import type { EndKind } from "./record.ts";

/** RELEASED; a failed check or a rule of the site; called off, or over before this site had released anything. */
export type SessionEndKind = "Released" | "Aborted" | "Cancelled";

export interface AgentMetrics {
  ended(kind: string): void;
  open(count: number): void;
  connected(is: boolean): void;
  sessionEnded(end: SessionEndKind): void;
  masked(seconds: number): void;
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
  return {
    sessionEnded: (end) => sessions.inc({ end }),
    masked: (seconds) => masking.observe(seconds),
    ended: (kind) => ended.inc({ end: kind }),
    open: (count) => open.set(count),
    connected: (is) => connected.set(is ? 1 : 0),
  };
}
