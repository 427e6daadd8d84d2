/**
 * What the gRPC server asks of the operator it serves, and what it hands to it (the hands know nothing of rounds).
 * Implemented by controllers/; a test implements it in a few lines.
 */
import type {
  Acceptance,
  Advertise,
  Attending,
  Consistency,
  DrawCommitment,
  DrawNonce,
  DrawStep,
  Failure,
  Manifest,
  ProtocolStep,
  Refusal,
  ShareKeys,
  Signed,
  TrainerStatus,
  Unmask,
  Work,
} from "./generated/rondo.v1.ts";

/** A Participant as the transport needs it: who may connect, with which key. */
export interface Member {
  participant: string;
  /** Ed25519 public key, 32 bytes; absent before enrolment. */
  identity?: Uint8Array;
  enrolment: number;
  suspended: boolean;
}

/** One living Attend stream. A newer stream of the same participant replaces the older one. */
export interface Session {
  participant: string;
  attending: Attending;
  sendPlan(plan: Signed): void;
  sendCancellation(work: Work, reason: string, message: string): void;
  /** What secure aggregation asks next; the same step may be sent again. */
  sendStep(step: ProtocolStep): void;
  sendDraw(step: DrawStep): void;
}

export type AgentReport =
  | { kind: "accept"; body: Acceptance }
  | { kind: "refuse"; body: Refusal }
  | { kind: "status"; body: TrainerStatus }
  | { kind: "fail"; body: Failure }
  | { kind: "advertise"; body: Advertise }
  | { kind: "share"; body: ShareKeys }
  | { kind: "consistency"; body: Consistency }
  | { kind: "unmask"; body: Unmask }
  | { kind: "commit"; body: DrawCommitment }
  | { kind: "reveal"; body: DrawNonce };

export interface Coordinator {
  /** undefined: no such Participant. Asked at every handshake and every opening message. */
  member(participant: string): Member | undefined;
  attended(session: Session): void;
  /** The stream ended. Called once per session, not for a session that a newer one replaced. */
  left(session: Session): void;
  /** Resolves when the report is journalled; only then is it acknowledged. Rejects with a TransportFault to refuse it. */
  received(participant: string, report: AgentReport): Promise<void>;
  /** Whether this upload is expected. Rejects with a TransportFault ("NotExpected", …) to refuse it. */
  admitUpload(participant: string, manifest: Manifest): Promise<void>;
  /**
   * The spool file is complete, verified and fsynced; resolves when that is journalled; only then goes the receipt.
   * Called again with the same manifest when the operator stopped before it had journalled the receipt.
   */
  uploaded(participant: string, manifest: Manifest, file: string): Promise<void>;
  /** An upload that it has admitted found no room on the volume. @param neededBytes  that must be free, where it is known */
  foundNoRoom?(neededBytes: number | undefined): void;
  /** The local file of an adapter that this participant may read; undefined: unknown digest. */
  adapter(participant: string, digest: Uint8Array): Promise<{ file: string; byteLength: number } | undefined>;
}

/** What enrolment asks of the operator. */
export interface EnrolmentOffice {
  member(participant: string): Member | undefined;
  /**
   * Uses the join token for this identity: writes Participant.spec.identity and journals the use.
   * The first identity that shows a token owns it; the same request again gets the same answer.
   * Rejects with a TransportFault "TokenUnknown" | "TokenUsed" | "TokenExpired" | "ParticipantUnknown" | "Suspended".
   */
  enrol(participant: string, tokenSha256: Uint8Array, identity: Uint8Array): Promise<void>;
  /** A certificate was issued; for Participant.status.certificate. */
  issued(participant: string, notAfterMs: number): void;
}
