/**
 * What an agent reports on its Attend stream: acceptances, refusals, trainer status, failures.
 * Holds: a report that gets through names its own participant and step, and every text in it is short enough for a resource's status.
 */
import type { AgentReport } from "./coordinator.ts";
import { decode, type openSigned } from "./envelope.ts";
import { TransportFault } from "./faults.ts";
import { Acceptance, Failure, Refusal, TrainerStatus, type Work } from "./generated/rondo.v1.ts";
import { MOST_SENTENCE_CHARACTERS } from "./limits.ts";

export type ReportKind = AgentReport["kind"];
export type ReportBody<K extends ReportKind> = Extract<AgentReport, { kind: K }>["body"];

const TRAINER_STATES = ["Scheduling", "Training", "Trained", "Sharing"];
const HASH_BYTES = 32;

const types = { accept: Acceptance, refuse: Refusal, status: TrainerStatus, fail: Failure };

export function isReportKind(kind: string): kind is ReportKind {
  return Object.hasOwn(types, kind);
}

export function encodeReport(report: AgentReport): Uint8Array {
  switch (report.kind) {
    case "accept":
      return Acceptance.encode(report.body).finish();
    case "refuse":
      return Refusal.encode(report.body).finish();
    case "status":
      return TrainerStatus.encode(report.body).finish();
    case "fail":
      return Failure.encode(report.body).finish();
  }
}

/** @param body  verified, see {@link openSigned}. @throws TransportFault "MessageInvalid" */
export function decodeReport(kind: ReportKind, body: Uint8Array, participant: string): AgentReport {
  const report = { kind, body: decode<unknown>(body, kind, types[kind]) } as AgentReport;
  checkWork(report.body.work, participant, kind);
  const complaint = complaintAbout(report);
  if (complaint) throw new TransportFault("MessageInvalid", `A message of kind "${kind}" ${complaint}`);
  return report;
}

/** @throws TransportFault "MessageInvalid" unless the message names this participant and this step */
export function checkWork(work: Work | undefined, participant: string, step: string): asserts work is Work {
  if (!work || work.participant !== participant || work.step !== step) {
    throw new TransportFault(
      "MessageInvalid",
      `A message of step "${step}" does not name its own participant and step`,
    );
  }
  const named = work.federation.length > 0 && work.federation.length <= 400;
  if (!named || work.round < 1 || work.attempt < 1 || work.purpose !== "delta") {
    throw new TransportFault(
      "MessageInvalid",
      `A message of step "${step}" does not name federation, round, attempt and purpose`,
    );
  }
}

function complaintAbout(report: AgentReport): string | undefined {
  switch (report.kind) {
    case "accept":
      return hashComplaint(report.body.planHash);
    case "refuse":
      return hashComplaint(report.body.planHash) ?? textComplaint(report.body, "required");
    case "fail":
      return textComplaint(report.body, "required");
    case "status": {
      const { state, job, progressStep, progressSteps } = report.body;
      if (!TRAINER_STATES.includes(state)) return "has an unknown state";
      if (job.length > 253) return "has a job name that is too long";
      if (progressStep > progressSteps) return "has more steps done than there are";
      return textComplaint(report.body, "optional");
    }
  }
}

function hashComplaint(hash: Uint8Array): string | undefined {
  return hash.length === HASH_BYTES ? undefined : "has a plan hash that is not 32 bytes long";
}

function textComplaint(
  { reason, message }: { reason: string; message: string },
  presence: "required" | "optional",
): string | undefined {
  const isNamed = /^[A-Z][A-Za-z0-9]{0,63}$/.test(reason) || (presence === "optional" && reason === "");
  if (!isNamed) return "has a reason that is not CamelCase";
  // biome-ignore lint/suspicious/noControlCharactersInRegex: what a terminal would obey must not reach a status
  if (message.length > MOST_SENTENCE_CHARACTERS || /[\u0000-\u001f\u007f]/.test(message)) {
    return `has a message that is no sentence of at most ${MOST_SENTENCE_CHARACTERS} characters`;
  }
  return undefined;
}
