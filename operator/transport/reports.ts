/**
 * What an agent reports on its Attend stream: acceptances, refusals, trainer status, failures, and its part of secure aggregation and draws.
 * Holds: a report that gets through names its own participant and step, and every text in it is short enough for a resource's status.
 */
import type { AgentReport } from "./coordinator.ts";
import { decode, type openSigned } from "./envelope.ts";
import { TransportFault } from "./faults.ts";
import {
  Acceptance,
  Advertise,
  Consistency,
  DrawCommitment,
  DrawNonce,
  Failure,
  Refusal,
  ShareKeys,
  TrainerStatus,
  Unmask,
  type Work,
} from "./generated/rondo.v1.ts";
import { MOST_PROTOCOL_BYTES, MOST_REPORT_BYTES, MOST_SENTENCE_CHARACTERS } from "./limits.ts";
import {
  advertiseComplaint,
  type Complaint,
  commitmentComplaint,
  consistencyComplaint,
  MOST_MEMBERS,
  nonceComplaint,
  shareComplaint,
  unmaskComplaint,
} from "./secure-shapes.ts";

export type ReportKind = AgentReport["kind"];
export type ReportBody<K extends ReportKind> = Extract<AgentReport, { kind: K }>["body"];

const TRAINER_STATES = ["Scheduling", "Training", "Trained", "Sharing"];
const HASH_BYTES = 32;
/** As in a plan's roster. */
const PARTICIPANT_NAME = /^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$/;

interface Codec {
  encode(body: never): { finish(): Uint8Array };
  decode(bytes: Uint8Array): unknown;
}

const codecs = {
  accept: Acceptance,
  refuse: Refusal,
  status: TrainerStatus,
  fail: Failure,
  advertise: Advertise,
  share: ShareKeys,
  consistency: Consistency,
  unmask: Unmask,
  commit: DrawCommitment,
  reveal: DrawNonce,
} satisfies Record<ReportKind, Codec>;

const PROTOCOL_KINDS: ReadonlySet<ReportKind> = new Set([
  "advertise",
  "share",
  "consistency",
  "unmask",
  "commit",
  "reveal",
]);

export function isReportKind(kind: string): kind is ReportKind {
  return Object.hasOwn(codecs, kind);
}

/** How large a report's body may be, before anything of it is read. */
export function mostBytesOf(kind: ReportKind): number {
  return PROTOCOL_KINDS.has(kind) ? MOST_PROTOCOL_BYTES : MOST_REPORT_BYTES;
}

export function encodeReport({ kind, body }: AgentReport): Uint8Array {
  return (codecs[kind] as Codec).encode(body as never).finish();
}

/** @param body  verified, see {@link openSigned}. @throws TransportFault "MessageInvalid" */
export function decodeReport(kind: ReportKind, body: Uint8Array, participant: string): AgentReport {
  const report = { kind, body: decode<unknown>(body, kind, codecs[kind]) } as AgentReport;
  checkWork(report.body.work, { participant, step: kind, purpose: purposeOf(kind) });
  const complaint = complaintAbout(report);
  if (complaint) throw new TransportFault("MessageInvalid", `A message of kind "${kind}" ${complaint}`);
  return report;
}

function purposeOf(kind: ReportKind): Work["purpose"] {
  return kind === "commit" || kind === "reveal" ? "draw" : "delta";
}

/** @throws TransportFault "MessageInvalid" unless the message names this participant, this step and work of this purpose */
export function checkWork(
  work: Work | undefined,
  { participant, step, purpose }: Pick<Work, "participant" | "step" | "purpose">,
): asserts work is Work {
  if (!work || work.participant !== participant || work.step !== step) {
    throw new TransportFault(
      "MessageInvalid",
      `A message of step "${step}" does not name its own participant and step`,
    );
  }
  const named = work.federation.length > 0 && work.federation.length <= 400;
  if (!named || work.round < 1 || work.attempt < 1 || work.purpose !== purpose) {
    throw new TransportFault(
      "MessageInvalid",
      `A message of step "${step}" does not name federation, round, attempt and purpose`,
    );
  }
}

function complaintAbout(report: AgentReport): Complaint {
  switch (report.kind) {
    case "accept":
      return hashComplaint(report.body.planHash);
    case "refuse":
      return hashComplaint(report.body.planHash) ?? textComplaint(report.body, "required");
    case "fail":
      return textComplaint(report.body, "required") ?? accusedComplaint(report.body.accused);
    case "status": {
      const { state, job, progressStep, progressSteps } = report.body;
      if (!TRAINER_STATES.includes(state)) return "has an unknown state";
      if (job.length > 253) return "has a job name that is too long";
      if (progressStep > progressSteps) return "has more steps done than there are";
      return textComplaint(report.body, "optional");
    }
    case "advertise":
      return advertiseComplaint(report.body);
    case "share":
      return shareComplaint(report.body);
    case "consistency":
      return consistencyComplaint(report.body);
    case "unmask":
      return unmaskComplaint(report.body);
    case "commit":
      return commitmentComplaint(report.body);
    case "reveal":
      return nonceComplaint(report.body);
  }
}

function accusedComplaint(accused: readonly string[]): Complaint {
  if (accused.length > MOST_MEMBERS) return `accuses more than ${MOST_MEMBERS} participants`;
  return accused.every((name) => PARTICIPANT_NAME.test(name)) ? undefined : "accuses what is no participant";
}

function hashComplaint(hash: Uint8Array): Complaint {
  return hash.length === HASH_BYTES ? undefined : "has a plan hash that is not 32 bytes long";
}

function textComplaint(
  { reason, message }: { reason: string; message: string },
  presence: "required" | "optional",
): Complaint {
  const isNamed = /^[A-Z][A-Za-z0-9]{0,63}$/.test(reason) || (presence === "optional" && reason === "");
  if (!isNamed) return "has a reason that is not CamelCase";
  // biome-ignore lint/suspicious/noControlCharactersInRegex: what a terminal would obey must not reach a status
  if (message.length > MOST_SENTENCE_CHARACTERS || /[\u0000-\u001f\u007f]/.test(message)) {
    return `has a message that is no sentence of at most ${MOST_SENTENCE_CHARACTERS} characters`;
  }
  return undefined;
}
