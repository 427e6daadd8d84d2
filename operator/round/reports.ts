/**
 * What agents report, taken into the record: acceptances, refusals, trainer states, failures, uploads.
 * Holds: the same report again changes nothing; a report about a participant that is settled changes nothing (its agent is
 * told to stop instead); a second contribution that differs from the first is refused, never an overwrite.
 * Does not: verify signatures (transport) or move the phase (decide.ts).
 */
import type { ParticipantState } from "../api/federation-round.ts";
import { applyAccusation, applyGone, cohortOf, expects, withAnswer } from "./cohorts.ts";
import { changed, isOut, isSettled, reasonWord, replace, sentence } from "./participants.ts";
import type { Contribution, RoundParticipant, RoundRecord } from "./record.ts";

export type Report =
  | { kind: "accept" }
  | { kind: "refuse"; reason: string; message: string }
  | {
      kind: "status";
      state: string;
      job: string;
      step: number;
      steps: number;
      reason: string;
      message: string;
    }
  /** @param accused  participants whose shares it could not open */
  | { kind: "fail"; reason: string; message: string; accused?: string[] };

const REPORTED: readonly ParticipantState[] = ["Scheduling", "Training", "Trained", "Sharing"];

export function applyReport(record: RoundRecord, participant: string, report: Report, nowMs: number): RoundRecord {
  const now = record.participants.find((p) => p.name === participant);
  if (!now || !isOpen(record)) return record;
  if (isSettled(now)) return afterContribution(record, now, report);
  const next = afterReport(now, heard(record, now, report), nowMs);
  if (next === now) return record;
  const reported = replace(record, next);
  return report.kind === "fail" ? applyAccusation(reported, participant, report.accused ?? []) : reported;
}

/** A session that was aborted after its masked vector had come: that counts, but the rest will not come. */
function afterContribution(record: RoundRecord, now: RoundParticipant, report: Report): RoundRecord {
  if (report.kind !== "fail" || now.state !== "Contributed") return record;
  const { reason, message } = because(report, "Failed");
  return applyGone(record, now.name, { reason, message });
}

/** Sharing means in a secure round that shares or the masked vector are here, which is not for the agent to say. */
function heard(record: RoundRecord, now: RoundParticipant, report: Report): Report {
  const isSecure = record.secure !== undefined || record.phase === "Planning";
  const early = isSecure && report.kind === "status" && report.state === "Sharing" && now.state !== "Sharing";
  return early ? { ...report, state: "Trained" } : report;
}

/** Reports count only while somebody may still contribute: also while a later attempt is planned, for which trainers go on. */
export function isOpen(record: RoundRecord): boolean {
  return takesUploads(record) || (record.phase === "Planning" && record.attempt > 1);
}

function takesUploads({ phase }: RoundRecord): boolean {
  return phase === "Training" || phase === "Aggregating";
}

/**
 * Whether this is the word of an attempt that has ended. What a site says of its trainer, or that it fails, is about the same work in every
 * attempt; what it says about a plan, and everything of secure aggregation, is about that attempt only.
 */
export function isOfEndedAttempt(record: RoundRecord, attempt: number, kind: string): boolean {
  return attempt < record.attempt && kind !== "status" && kind !== "fail";
}

/** Only what a person watches has changed: it needs no fsync and no hurry. Records share what did not change, so this is cheap. */
export function isProgressOnly(before: RoundRecord, after: RoundRecord): boolean {
  const fields = Object.keys({ ...before, ...after }) as Array<keyof RoundRecord>;
  if (fields.some((field) => field !== "participants" && before[field] !== after[field])) return false;
  return (
    before.participants.length === after.participants.length &&
    before.participants.every((was, i) => differsInProgress(was, after.participants[i]!))
  );
}

function differsInProgress(was: RoundParticipant, is: RoundParticipant): boolean {
  if (was === is) return true;
  const fields = Object.keys({ ...was, ...is }) as Array<keyof RoundParticipant>;
  return fields.every((field) => field === "progress" || was[field] === is[field]);
}

function afterReport(now: RoundParticipant, report: Report, nowMs: number): RoundParticipant {
  switch (report.kind) {
    case "accept":
      return now.state === "Invited" ? changed(now, { state: "Accepted" }, nowMs) : now;
    case "refuse":
      return changed(now, { state: "Refused", ...because(report, "Refused") }, nowMs);
    case "fail":
      return changed(now, { state: "Failed", ...because(report, "Failed") }, nowMs);
    case "status":
      return afterStatus(now, report, nowMs);
  }
}

function afterStatus(now: RoundParticipant, report: Extract<Report, { kind: "status" }>, nowMs: number) {
  const state = REPORTED.find((s) => s === report.state);
  if (!state) return now;
  // A pod that was evicted is scheduled again, but what was trained is never untrained.
  const trained = now.state === "Trained" || now.state === "Sharing";
  if (trained && (state === "Scheduling" || state === "Training")) return now;
  const progress = report.steps > 0 ? { step: Math.min(report.step, report.steps), steps: report.steps } : undefined;
  const next = changed(
    now,
    {
      state,
      job: sentence(report.job).slice(0, 63),
      reason: report.reason === "" ? "" : reasonWord(report.reason, state),
      message: sentence(report.message),
      ...(progress && { progress }),
    },
    nowMs,
  );
  return JSON.stringify(next) === JSON.stringify(now) ? now : next;
}

function because(report: { reason: string; message: string }, fallback: string) {
  return { reason: reasonWord(report.reason, fallback), message: sentence(report.message) || "no reason was given" };
}

export type UploadFault =
  | { code: "NotExpected"; message: string }
  | { code: "Conflict"; message: string }
  | { code: "TooLarge"; message: string }
  | { code: "WrongLength"; message: string };

/** undefined: this upload may come. */
export function uploadFault(
  record: RoundRecord,
  upload: { participant: string; root: string; byteLength: number },
  nowMs: number,
): UploadFault | undefined {
  const p = record.participants.find((one) => one.name === upload.participant);
  const known = record.contributions.find((c) => c.participant === upload.participant);
  if (known) {
    if (known.root === upload.root && known.byteLength === upload.byteLength) return undefined;
    return { code: "Conflict", message: "another contribution of this participant is already recorded for this round" };
  }
  if (!p) return { code: "NotExpected", message: "this participant is not on the round's roster" };
  if (!takesUploads(record)) return { code: "NotExpected", message: "the round takes no contributions now" };
  if (isOut(p)) return { code: "NotExpected", message: sentence(`this participant is ${p.state}: ${p.message}`) };
  if (nowMs >= record.deadlines!.aggregationMs)
    return { code: "NotExpected", message: "the aggregation deadline has passed" };
  const secure = record.secure && secureFault(record, upload);
  if (secure) return secure;
  if (upload.byteLength > record.plan!.uploadLimitBytes)
    return { code: "TooLarge", message: `at most ${record.plan!.uploadLimitBytes} bytes are expected by the plan` };
  return undefined;
}

/** A masked vector comes in its own step only, has exactly its own length, and counts for U3 when it is whole. */
function secureFault(
  record: RoundRecord,
  upload: { participant: string; byteLength: number },
): UploadFault | undefined {
  const { step, failure } = cohortOf(record, upload.participant)!.cohort;
  if (failure || !expects(record, upload.participant, "mask")) {
    const when = step === "advertise" || step === "share" ? "not begun" : "ended";
    return { code: "NotExpected", message: `masking has ${when} in this participant's cohort` };
  }
  const { byteLength } = record.secure!;
  if (upload.byteLength === byteLength) return undefined;
  return {
    code: "WrongLength",
    message: `a masked vector of this round has ${byteLength} bytes, not ${upload.byteLength}`,
  };
}

/** The first byte is on its way: the participant is Sharing. */
export function applyUploadBegun(record: RoundRecord, participant: string, nowMs: number): RoundRecord {
  const now = record.participants.find((p) => p.name === participant);
  if (!now || !takesUploads(record) || isSettled(now) || now.state === "Sharing") return record;
  return replace(record, changed(now, { state: "Sharing" }, nowMs));
}

/** Call only when uploadFault() has nothing against it. */
export function applyContribution(record: RoundRecord, contribution: Contribution, nowMs: number): RoundRecord {
  if (record.contributions.some((c) => c.participant === contribution.participant)) return record;
  const now = record.participants.find((p) => p.name === contribution.participant)!;
  const contributed = replace(record, changed(now, { state: "Contributed" }, nowMs));
  const next = record.secure ? withAnswer(contributed, now.name) : contributed;
  return {
    ...next,
    contributions: [...record.contributions, contribution],
    bytes: { ...record.bytes, up: record.bytes.up + contribution.byteLength },
  };
}

/** What a participant sent was found wrong: it does not count any more, or will not answer any more if it has contributed. */
export function applyFault(
  record: RoundRecord,
  participant: string,
  { reason, message }: { reason: string; message: string },
  nowMs: number,
): RoundRecord {
  const now = record.participants.find((p) => p.name === participant);
  if (!now || !isOpen(record) || isOut(now)) return record;
  if (now.state === "Contributed") return applyGone(record, participant, { reason, message });
  return replace(record, changed(now, { state: "Excluded", reason, message: sentence(message) }, nowMs));
}
