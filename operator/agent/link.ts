/**
 * What an assignment asks of the connection to the operator. Implemented over transport/client.ts (operator.ts); the tests of the state
 * machine stand in for the far side.
 */
import type { ParticipantMessage } from "../secagg/messages.ts";
import type { TrainerReport } from "./assignment.ts";
import type { Assignment } from "./record.ts";

export interface OperatorLink {
  /** Each resolves when the operator has journalled it, over as many connections as that takes; rejects when the agent stops. */
  /** @throws NotWanted when the operator does not expect this participant any more */
  accept(assignment: Assignment): Promise<void>;
  refuse(of: NamedWork, refusal: { reason: string; message: string }): Promise<void>;
  fail(assignment: Assignment, failure: FailureReport): Promise<void>;
  /** The newest counts; lost while disconnected, then sent again. */
  status(assignment: Assignment, report: TrainerReport): void;
  /** Into `file`, verified by its digest and synced; what is there already is not fetched again. @throws OperatorFault when there is no such adapter for this site */
  fetchAdapter(adapter: AdapterRequest): Promise<void>;
  /** Resolves with the operator's signed receipt checked. @throws OperatorFault when it will never take this upload */
  upload(assignment: Assignment, upload: Upload): Promise<void>;
  /**
   * A message of secure aggregation.
   * @param signal  withdraws it: the session may not say it any more
   * @throws OperatorFault when the operator will never take it
   */
  say(assignment: Assignment, message: ParticipantMessage, signal: AbortSignal): Promise<void>;
  /** This site's commitment in a draw of cohorts, and its nonce. @throws OperatorFault as above */
  commit(draw: NamedDraw, commitment: Uint8Array, signature: Uint8Array): Promise<void>;
  reveal(draw: NamedDraw, nonce: Uint8Array): Promise<void>;
}

export interface Upload {
  file: string;
  signal: AbortSignal;
  /** Of a masked vector, 64 bytes; the root that it signs, which the file must still have; and the leaves of that root where they are known. */
  input?: { signature: Uint8Array; root: Uint8Array; leaves?: Uint8Array[] };
}

/** What names an answer; an assignment is one. */
export type NamedWork = Pick<Assignment, "federation" | "round" | "attempt" | "purpose" | "participant" | "planHash">;

export interface NamedDraw {
  federation: string;
  round: number;
  /** From 1. */
  number: number;
  participant: string;
}

export interface FailureReport {
  reason: string;
  message: string;
  /** Participants whose shares could not be opened. */
  accused?: readonly string[];
}

export interface AdapterRequest {
  federation: string;
  /** sha256:<hex> of the safetensors file. */
  digest: string;
  byteLength: number;
  file: string;
  signal: AbortSignal;
}

/**
 * The reason of a fault that says: for an earlier attempt of the round than the one that runs. Nothing has failed: the next plan is on its
 * way, or a cancellation.
 */
export const ATTEMPT_ENDED = "AttemptEnded";

/** The operator does not wait for this participant (any more): the round has ended, or goes on without it. */
export class NotWanted extends Error {
  override readonly name = "NotWanted";
  readonly reason: string;
  constructor(reason: string, message: string) {
    super(message);
    this.reason = reason;
  }
}

/** The operator does not take this contribution, or does not have this adapter, and asking again will not help. */
export class OperatorFault extends Error {
  override readonly name = "OperatorFault";
  readonly reason: string;
  constructor(reason: string, message: string) {
    super(message);
    this.reason = reason;
  }
}
