/**
 * The one status write of a round's reconcile; tell.ts says the events that go with it.
 * Holds: nothing is written that is written already; a new phase, or a full volume, is written at once; what a step of training changes alone is written at
 *   most every PROGRESS_QUICK_MS in a round's first minute, and every PROGRESS_MS later, anything else at most every SETTLE_MS, so that
 *   writes do not grow with steps × participants.
 */
import type { Condition } from "../../api/conditions.ts";
import type { FederationRound, FederationRoundStatus } from "../../api/federation-round.ts";
import { FEDERATION_ROUNDS } from "../../kube/resources.ts";
import { isTerminal, type RoundRecord } from "../../round/record.ts";
import { isProgressOnly } from "../../round/reports.ts";
import type { Context } from "../context.ts";
import { statusOf } from "./status.ts";
import { asTold, tell } from "./tell.ts";

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
    if (last && last.record.phase === record.phase && waitsForRoom(last.record) === waitsForRoom(record)) {
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
    // One that ended before there was this object is the outcome of an earlier one of its name: that was told then.
    const isRecalled = isTerminal(record) && lastPhaseMs(record) < Date.parse(round.metadata.creationTimestamp);
    if (!isRecalled) tell(this.#context, round, last?.record ?? asTold(round.status, record), record);
    return undefined;
  }

  forget(uid: string): void {
    this.#written.delete(uid);
  }
}

function waitsForRoom({ waiting }: RoundRecord): boolean {
  return waiting?.for === "StorageFull";
}

function holdBackMs(written: RoundRecord, record: RoundRecord, nowMs: number): number {
  if (!isProgressOnly(written, record)) return SETTLE_MS;
  return nowMs - lastPhaseMs(record) < QUICK_FOR_MS ? PROGRESS_QUICK_MS : PROGRESS_MS;
}

function lastPhaseMs(record: RoundRecord): number {
  return record.phaseTimes.at(-1)!.atMs;
}
