/**
 * The one status write of a round's reconcile, and its events.
 * Holds: nothing is written that is written already; what a step of training changes alone is written at most every
 *   PROGRESS_QUICK_MS in a round's first minute, and every PROGRESS_MS later, so that writes do not grow with steps × participants.
 */
import type { Condition } from "../../api/conditions.ts";
import type { FederationRound, FederationRoundStatus } from "../../api/federation-round.ts";
import { FEDERATION_ROUNDS } from "../../kube/resources.ts";
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
    if (last && isProgressOnly(last.record, record)) {
      const dueMs = last.atMs + (nowMs - lastPhaseMs(record) < QUICK_FOR_MS ? PROGRESS_QUICK_MS : PROGRESS_MS);
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
      const note = `${participant.name}: ${participant.message || participant.reason}`;
      events.record(round, { type: "Warning", reason: `Participant${participant.state}`, note });
      if (participant.state === "Excluded") metrics.contribution("excluded");
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

function lastPhaseMs(record: RoundRecord): number {
  return record.phaseTimes.at(-1)!.atMs;
}
