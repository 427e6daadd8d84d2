/**
 * The operator's own metrics: rounds, contributions, bytes, agents.
 * Holds: labels are closed sets; nothing of one participant is ever a label or a value.
 */
import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import type { RoundPhase } from "../api/federation-round.ts";
import type { CohortStep } from "../round/record.ts";
import { SECAGG_CODES } from "../secagg/faults.ts";

export interface OperatorMetrics {
  phaseEnded(phase: RoundPhase, seconds: number): void;
  roundEnded(outcome: "Succeeded" | "Failed" | "Cancelled", reason: string): void;
  contribution(result: "received" | "refused" | "excluded"): void;
  bytes(direction: "up" | "down", bytes: number): void;
  pushed(result: "published" | "failed", seconds: number): void;
  enrolled(result: "enrolled" | "refused"): void;
  /** One cohort: finding the secrets and removing the masks. */
  unmasked(seconds: number): void;
  stepEnded(step: CohortStep, seconds: number): void;
  /** @param reason  of secagg/faults.ts or of the round; anything else is counted as "Other" */
  aborted(reason: string): void;
}

/** A site writes its reasons itself: what is on no list would make a label without end. */
const ABORT_REASONS: ReadonlySet<string> = new Set([...SECAGG_CODES, "Revoked", "WrongLength"]);

const SECONDS = [0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14_400];

export function operatorMetrics(
  registry: Registry,
  state: { openRounds(): number; connectedAgents(): number; freeBytes(): number | undefined },
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
  const unmaskSeconds = new Histogram({
    name: "rondo_secagg_unmask_seconds",
    help: "Finding the secrets of one cohort and removing its masks, after the last share",
    buckets: SECONDS,
    registers,
  });
  const stepSeconds = new Histogram({
    name: "rondo_secagg_step_seconds",
    help: "How long cohorts stay in a step of secure aggregation",
    labelNames: ["step"],
    buckets: SECONDS,
    registers,
  });
  const aborted = new Counter({
    name: "rondo_secagg_aborted_total",
    help: "Sessions of participants and whole cohorts that ended before their sum, by reason",
    labelNames: ["reason"],
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
  new Gauge({
    name: "rondo_storage_free_bytes",
    help: "Free on the volume of journal, spool and adapters",
    registers,
    collect() {
      this.set(state.freeBytes() ?? Number.NaN);
    },
  });
  return {
    phaseEnded: (phase, seconds) => phaseSeconds.observe({ phase }, seconds),
    roundEnded: (phase, reason) => rounds.inc({ phase, reason }),
    contribution: (result) => contributions.inc({ result }),
    bytes: (direction, count) => bytes.inc({ direction }, count),
    pushed: (result, seconds) => pushSeconds.observe({ result }, seconds),
    enrolled: (result) => enrolments.inc({ result }),
    unmasked: (seconds) => unmaskSeconds.observe(seconds),
    stepEnded: (step, seconds) => stepSeconds.observe({ step }, seconds),
    aborted: (reason) => aborted.inc({ reason: ABORT_REASONS.has(reason) ? reason : "Other" }),
  };
}
