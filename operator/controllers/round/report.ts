/**
 * The one status write of a round's reconcile, and its events.
 * Holds: nothing is written that is written already; a new phase is written at once; what a step of training changes alone is written at
 *   most every PROGRESS_QUICK_MS in a round's first minute, and every PROGRESS_MS later, anything else at most every SETTLE_MS, so that
 *   writes do not grow with steps × participants.
 */
import type { Condition } from "../../api/conditions.ts";
import type { FederationRound, FederationRoundStatus } from "../../api/federation-round.ts";
import { FEDERATION_ROUNDS } from "../../kube/resources.ts";
import { cohortOf } from "../../round/cohorts.ts";
import { isOut } from "../../round/participants.ts";
import { isTerminal, type RoundRecord } from "../../round/record.ts";
import { isProgressOnly } from "../../round/reports.ts";
import type { Context } from "../context.ts";
import { tellCohorts } from "./cohort-events.ts";
import { statusOf } from "./status.ts";

/** api.md. */
const PROGRESS_MS = 10_000;
/** Short rounds are those that somebody watches. */
const PROGRESS_QUICK_MS = 2_000;
const QUICK_FOR_MS = 60_000;
/**
 * Participants change together, in secure aggregation at every step: each write costs the API server some 10 ms and holds up the step
 * that comes next. Nobody reads a status faster than this.
 */
const SETTLE_MS = 300;

interface Written {
  record: RoundRecord;
  status: FederationRoundStatus;
  atMs: number;
}

export class RoundReporter {
  readonly #context: Context;
  readonly #written = new Map<string, Written>();

  constructor(context: Context) {
    this.#context = context;
  }

  /** @returns when to come again for what was held back */
  async report(round: FederationRound, record: RoundRecord): Promise<number | undefined> {
    const { uid, generation, namespace, name } = round.metadata;
    const nowMs = this.#context.now();
    const last = this.#written.get(uid);
    if (last?.record === record) return undefined;
    // After a restart: history is not written again.
    if (!last && isTerminal(record) && round.status.phase === record.phase) return undefined;
    if (last && last.record.phase === record.phase) {
      const dueMs = last.atMs + holdBackMs(last.record, record, nowMs);
      if (nowMs < dueMs) return dueMs;
    }
    const before: Condition[] = last?.status.conditions ?? round.status.conditions ?? [];
    const status = statusOf(record, before, { generation, nowMs });
    if (JSON.stringify(status) !== JSON.stringify(last?.status ?? round.status)) {
      const written = await this.#context.client.applyStatus(FEDERATION_ROUNDS, {
        metadata: { name, namespace },
        status,
      });
      this.#context.caches.rounds.put(written);
    }
    this.#written.set(uid, { record, status, atMs: nowMs });
    if (last) this.#tell(round, last.record, record);
    return undefined;
  }

  forget(uid: string): void {
    this.#written.delete(uid);
  }

  /** Transitions only. A restart tells nothing twice, and may leave one out: events are for people. */
  #tell(round: FederationRound, before: RoundRecord, after: RoundRecord): void {
    const { events, metrics } = this.#context;
    for (const participant of after.participants) {
      const was = before.participants.find(({ name }) => name === participant.name);
      if (!was || was.state === participant.state || !isOut(participant)) continue;
      // The cohort's own event says it once for all of its members.
      if (after.secure && cohortOf(after, participant.name)?.cohort.failure?.code === participant.reason) continue;
      const note = `${participant.name}: ${participant.message || participant.reason}`;
      events.record(round, { type: "Warning", reason: `Participant${participant.state}`, note });
      if (participant.state === "Excluded" && was.state === "Contributed") metrics.contribution("excluded");
    }
    if (after.secure) tellCohorts(this.#context, round, before, after);
    for (const { phase, atMs } of after.phaseTimes.slice(before.phaseTimes.length)) {
      const previous = after.phaseTimes[after.phaseTimes.findIndex((entry) => entry.phase === phase) - 1];
      if (previous) metrics.phaseEnded(previous.phase, (atMs - previous.atMs) / 1000);
      const failed = phase === "Failed" || phase === "Cancelled";
      const note = failed || phase === "Succeeded" ? (after.outcome?.message ?? phase) : `the round entered ${phase}`;
      events.record(round, {
        type: failed ? "Warning" : "Normal",
        reason: failed ? after.outcome!.reason : phase,
        note,
      });
      if (failed || phase === "Succeeded") metrics.roundEnded(phase, after.outcome?.reason ?? phase);
    }
  }
}

function holdBackMs(written: RoundRecord, record: RoundRecord, nowMs: number): number {
  if (!isProgressOnly(written, record)) return SETTLE_MS;
  return nowMs - lastPhaseMs(record) < QUICK_FOR_MS ? PROGRESS_QUICK_MS : PROGRESS_MS;
}

function lastPhaseMs(record: RoundRecord): number {
  return record.phaseTimes.at(-1)!.atMs;
}
