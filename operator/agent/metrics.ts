/** Metrics of the agent. Labels are closed sets: nothing per participant, no counts, losses or norms. */
import { Counter, Gauge, type Registry } from "prom-client";
import type { EndKind } from "./record.ts";

export interface AgentMetrics {
  ended(kind: string): void;
  open(count: number): void;
  connected(is: boolean): void;
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
  return {
    ended: (kind) => ended.inc({ end: kind }),
    open: (count) => open.set(count),
    connected: (is) => connected.set(is ? 1 : 0),
  };
}
