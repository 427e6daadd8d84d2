/**
 * A round's events and the metrics that count them: phases, who stopped counting, a new attempt, the volume that is full.
 * Holds: transitions only, each told once: after a restart from what the status said last. Events are for people, and a crash between status
 *   and event may leave one out.
 */
import type { FederationRound, FederationRoundStatus, RoundPhase } from "../../api/federation-round.ts";
import { cohortOf } from "../../round/cohorts.ts";
import { isOut } from "../../round/participants.ts";
import type { RoundParticipant, RoundRecord } from "../../round/record.ts";
import type { Context } from "../context.ts";
import { tellCohorts } from "./cohort-events.ts";

type Hands = Pick<Context, "events" | "metrics">;

/** What tell() compares with, of rounds that this process has told nothing of yet. */
export function asTold(status: FederationRoundStatus, record: RoundRecord): RoundRecord {
  const toldMs = Math.max(...(status.phaseTimes ?? []).map(({ at }) => Date.parse(at)), record.phaseTimes[0]!.atMs);
  const states = new Map((status.participants ?? []).map(({ name, state }) => [name, state]));
  return {
    ...record,
    attempt: status.attempt ?? 1,
    phaseTimes: record.phaseTimes.filter(({ atMs }) => atMs <= toldMs),
    participants: record.participants.map((p) => ({ ...p, state: states.get(p.name) ?? p.state })),
  };
}

export function tell(hands: Hands, round: FederationRound, before: RoundRecord, after: RoundRecord): void {
  for (const participant of newlyOut(before, after)) tellLoss(hands, round, participant, after);
  if (after.secure && after.attempt === before.attempt) tellCohorts(hands, round, before, after);
  tellStorage(hands, round, before, after);
  if (after.attempt > before.attempt) tellAttempt(hands, round, before, after);
  for (let i = before.phaseTimes.length; i < after.phaseTimes.length; i++) {
    const { phase, atMs } = after.phaseTimes[i]!;
    const previous = after.phaseTimes[i - 1];
    if (previous) hands.metrics.phaseEnded(previous.phase, (atMs - previous.atMs) / 1000);
    tellPhase(hands, round, phase, after);
  }
}

type Loss = { was: RoundParticipant; is: RoundParticipant };

function newlyOut(before: RoundRecord, after: RoundRecord): Loss[] {
  return after.participants.flatMap((is) => {
    const was = before.participants.find(({ name }) => name === is.name);
    return was && was.state !== is.state && isOut(is) ? [{ was, is }] : [];
  });
}

function tellLoss({ events, metrics }: Hands, round: FederationRound, { was, is }: Loss, after: RoundRecord): void {
  if (is.state === "Excluded" && was.state === "Contributed") metrics.contribution("excluded");
  // The cohort's own event says it once for all of its members.
  if (after.secure && cohortOf(after, is.name)?.cohort.failure?.code === is.reason) return;
  const note = `${is.name}: ${is.message || is.reason}`;
  // Whoever was not needed has done nothing wrong.
  const type = is.reason === "NotNeeded" ? "Normal" : "Warning";
  events.record(round, { type, reason: `Participant${is.state}`, note });
}

function tellAttempt({ events }: Hands, round: FederationRound, before: RoundRecord, after: RoundRecord): void {
  const left = newlyOut(before, after).map(({ is }) => is.name);
  const without = left.length > 0 ? ` without ${listed(left)}` : " without those who are lost";
  const retried = (after.attempts?.failed ?? 0) > (before.attempts?.failed ?? 0);
  const why = retried
    ? `a cohort was below its threshold: retry ${after.attempts!.failed} of ${after.plan?.retries ?? 0}`
    : "nobody had shared keys, so it costs no retry";
  const note = `attempt ${after.attempt}${without}; ${why}. What was trained counts on`;
  events.record(round, { type: retried ? "Warning" : "Normal", reason: "NewAttempt", note });
}

function tellStorage({ events }: Hands, round: FederationRound, before: RoundRecord, after: RoundRecord): void {
  const [was, is] = [before, after].map(({ waiting }) => waiting?.for === "StorageFull");
  if (is && !was) events.record(round, { type: "Warning", reason: "StorageFull", note: after.waiting!.message });
  if (was && !is)
    events.record(round, {
      type: "Normal",
      reason: "StorageAvailable",
      note: "the operator's volume has room again",
    });
}

function tellPhase({ events, metrics }: Hands, round: FederationRound, phase: RoundPhase, after: RoundRecord): void {
  const failed = phase === "Failed" || phase === "Cancelled";
  const hasEnded = failed || phase === "Succeeded";
  const note = hasEnded ? (after.outcome?.message ?? phase) : `the round entered ${phase}`;
  const reason = failed ? after.outcome!.reason : phase;
  events.record(round, { type: failed ? "Warning" : "Normal", reason, note });
  if (hasEnded) metrics.roundEnded(phase, after.outcome?.reason ?? phase);
}

function listed(names: string[]): string {
  const more = names.length - 8;
  return names.slice(0, 8).join(", ") + (more > 0 ? ` and ${more} more` : "");
}
