/**
 * The operator's own metrics: rounds, contributions, bytes, agents.
 * Holds: labels are closed sets; nothing of one participant is ever a label or a value.
 */
import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import type { RoundPhase } from "../api/federation-round.ts";

export interface OperatorMetrics {
  phaseEnded(phase: RoundPhase, seconds: number): void;
  roundEnded(outcome: "Succeeded" | "Failed" | "Cancelled", reason: string): void;
  contribution(result: "received" | "refused" | "excluded"): void;
  bytes(direction: "up" | "down", bytes: number): void;
  pushed(result: "published" | "failed", seconds: number): void;
  enrolled(result: "enrolled" | "refused"): void;
}

const SECONDS = [0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14_400];

export function operatorMetrics(
  registry: Registry,
  state: { openRounds(): number; connectedAgents(): number },
): OperatorMetrics {
  const registers = [registry];
  const phaseSeconds = new Histogram({
    name: "rondo_round_phase_seconds",
    help: "How long rounds stay in a phase",
    labelNames: ["phase"],
    buckets: SECONDS,
    registers,
  });
  const rounds = new Counter({
    name: "rondo_rounds_total",
    help: "Rounds that ended, by phase and reason",
    labelNames: ["phase", "reason"],
    registers,
  });
  const contributions = new Counter({
    name: "rondo_contributions_total",
    help: "Contributions received, refused before the upload, or excluded after it",
    labelNames: ["result"],
    registers,
  });
  const bytes = new Counter({
    name: "rondo_adapter_bytes_total",
    help: "Bytes of contributions (up) and parent adapters (down)",
    labelNames: ["direction"],
    registers,
  });
  const pushSeconds = new Histogram({
    name: "rondo_publish_seconds",
    help: "One attempt to push an adapter to its registry",
    labelNames: ["result"],
    buckets: SECONDS,
    registers,
  });
  const enrolments = new Counter({
    name: "rondo_enrolments_total",
    help: "Uses of join tokens",
    labelNames: ["result"],
    registers,
  });
  new Gauge({
    name: "rondo_rounds_open",
    help: "Rounds that have not ended",
    registers,
    collect() {
      this.set(state.openRounds());
    },
  });
  new Gauge({
    name: "rondo_agents_connected",
    help: "Agents with a living stream",
    registers,
    collect() {
      this.set(state.connectedAgents());
    },
  });
  return {
    phaseEnded: (phase, seconds) => phaseSeconds.observe({ phase }, seconds),
    roundEnded: (phase, reason) => rounds.inc({ phase, reason }),
    contribution: (result) => contributions.inc({ result }),
    bytes: (direction, count) => bytes.inc({ direction }, count),
    pushed: (result, seconds) => pushSeconds.observe({ result }, seconds),
    enrolled: (result) => enrolments.inc({ result }),
  };
}
