/**
 * What an assignment asks of the connection to the operator. Implemented over transport/client.ts (operator.ts); the tests of the state
 * machine stand in for the far side.
 */
import type { TrainerReport } from "./assignment.ts";
import type { Assignment } from "./record.ts";

export interface OperatorLink {
  /** Resolves when the operator has journalled it; goes on over disconnections until then, or until `signal`. */
  accept(assignment: Assignment, signal: AbortSignal): Promise<void>;
  refuse(assignment: Assignment, refusal: { reason: string; message: string }, signal: AbortSignal): Promise<void>;
  fail(assignment: Assignment, failure: { reason: string; message: string }, signal: AbortSignal): Promise<void>;
  /** The newest counts; lost while disconnected, then sent again. */
  status(assignment: Assignment, report: TrainerReport): void;
  /** Into `file`, verified by its digest and synced; what is there already is not fetched again. */
  fetchAdapter(adapter: AdapterRequest): Promise<void>;
  /** Resolves with the operator's signed receipt checked. @throws UploadRefused when it will never take this upload */
  upload(assignment: Assignment, file: string, signal: AbortSignal): Promise<void>;
}

export interface AdapterRequest {
  federation: string;
  /** sha256:<hex> of the safetensors file. */
  digest: string;
  /** Where it is known. */
  byteLength?: number;
  file: string;
  signal: AbortSignal;
}

/** The operator does not take this contribution, and asking again will not help. */
export class UploadRefused extends Error {
  override readonly name = "UploadRefused";
  readonly reason: string;
  constructor(reason: string, message: string) {
    super(message);
    this.reason = reason;
  }
}
