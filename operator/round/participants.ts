/**
 * What a participant's state means for its round, and how it changes.
 * Holds: a participant that is out or has contributed changes no more, but for a contribution that the operator excludes.
 */
import { MESSAGE_MAX, type ParticipantState } from "../api/federation-round.ts";
import type { RoundParticipant, RoundRecord } from "./record.ts";

export const OUT: readonly ParticipantState[] = ["Refused", "Excluded", "Lost", "Failed"];
/** Of whoever was left behind because enough others were there (stragglers.ts). */
export const NOT_NEEDED = "NotNeeded";
/** A contribution may still come, and needs the training deadline to come in time. */
export const BEFORE_TRAINED: readonly ParticipantState[] = ["Invited", "Accepted", "Scheduling", "Training"];

export function isOut(participant: RoundParticipant): boolean {
  return OUT.includes(participant.state);
}

/** Nothing more is expected of it. */
export function isSettled(participant: RoundParticipant): boolean {
  return participant.state === "Contributed" || isOut(participant);
}

export function mayStillContribute(participant: RoundParticipant): boolean {
  return !isOut(participant);
}

export interface Change {
  state: ParticipantState;
  reason?: string;
  message?: string;
  job?: string;
  progress?: { step: number; steps: number };
}

/** One line of at most 256 characters: what came from a site goes into status, events and the log. */
export function sentence(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are exactly what must not get through
  const line = text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, " ").trim();
  return line.length <= MESSAGE_MAX ? line : `${line.slice(0, MESSAGE_MAX - 1)}…`;
}

/** CamelCase as metav1.Condition wants it; anything else becomes the given fallback. */
export function reasonWord(text: string, fallback: string): string {
  return /^[A-Za-z][A-Za-z0-9]{0,63}$/.test(text) ? text : fallback;
}

export function changed(participant: RoundParticipant, change: Change, nowMs: number): RoundParticipant {
  const moved = participant.state !== change.state;
  const progress = change.progress ?? participant.progress;
  const started = participant.startedMs ?? (change.state === "Training" ? nowMs : undefined);
  return {
    name: participant.name,
    state: change.state,
    job: change.job || participant.job,
    ...(progress && { progress }),
    reason: change.reason ?? "",
    message: change.message ?? "",
    sinceMs: moved ? nowMs : participant.sinceMs,
    ...(started !== undefined && { startedMs: started }),
  };
}

export function replace(record: RoundRecord, participant: RoundParticipant): RoundRecord {
  return { ...record, participants: record.participants.map((p) => (p.name === participant.name ? participant : p)) };
}

export function progressText(participant: RoundParticipant): string {
  return participant.progress ? `${participant.progress.step}/${participant.progress.steps}` : "";
}
