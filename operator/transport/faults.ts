/**
 * Every way in which enrolment or the agent's connection fails, and what it becomes on the wire (protocol.md "Errors").
 * Holds: on the wire a fault is status code + reason (trailing metadata `rondo-reason`) + sentence; whoever reads one gets a sentence
 * for a person, never the text of gRPC.
 */
import { Metadata, type ServiceError, type StatusObject, status } from "@grpc/grpc-js";

/**
 * code → its gRPC status, and whether the same request may succeed later without a person's doing.
 * A code that is not here does not compile, and one that arrives and is not here is read as "Unavailable".
 */
const CODES = {
  // Enrolment
  TokenUnknown: { status: status.UNAUTHENTICATED, retry: "never" },
  TokenUsed: { status: status.UNAUTHENTICATED, retry: "never" },
  TokenExpired: { status: status.UNAUTHENTICATED, retry: "never" },
  ParticipantUnknown: { status: status.NOT_FOUND, retry: "never" },
  Suspended: { status: status.PERMISSION_DENIED, retry: "never" },
  // The operator may not have seen the identity yet that it has just written.
  NotEnrolled: { status: status.FAILED_PRECONDITION, retry: "later" },
  ClockSkew: { status: status.FAILED_PRECONDITION, retry: "never" },
  TooManyRequests: { status: status.RESOURCE_EXHAUSTED, retry: "later" },
  // Who is speaking
  CertificateInvalid: { status: status.UNAUTHENTICATED, retry: "renew" },
  CertificateExpired: { status: status.UNAUTHENTICATED, retry: "renew" },
  IdentityChanged: { status: status.UNAUTHENTICATED, retry: "renew" },
  SignatureInvalid: { status: status.UNAUTHENTICATED, retry: "never" },
  ChallengeUnknown: { status: status.FAILED_PRECONDITION, retry: "later" },
  OperatorUntrusted: { status: status.UNAUTHENTICATED, retry: "never" },
  // What is said
  MessageInvalid: { status: status.INVALID_ARGUMENT, retry: "never" },
  MessageTooLarge: { status: status.RESOURCE_EXHAUSTED, retry: "never" },
  PlanInvalid: { status: status.INVALID_ARGUMENT, retry: "never" },
  AnswerDiffers: { status: status.ALREADY_EXISTS, retry: "never" },
  NotExpected: { status: status.FAILED_PRECONDITION, retry: "never" },
  // Said for an earlier attempt of the round than the one that runs: the agent waits for the next plan, or for a cancellation.
  AttemptEnded: { status: status.FAILED_PRECONDITION, retry: "never" },
  DeadlinePassed: { status: status.FAILED_PRECONDITION, retry: "never" },
  ManifestInvalid: { status: status.INVALID_ARGUMENT, retry: "never" },
  ManifestDiffers: { status: status.ALREADY_EXISTS, retry: "never" },
  ChunkInvalid: { status: status.DATA_LOSS, retry: "later" },
  DigestUnknown: { status: status.NOT_FOUND, retry: "never" },
  DigestDiffers: { status: status.DATA_LOSS, retry: "later" },
  // The connection
  Replaced: { status: status.ABORTED, retry: "later" },
  Disconnected: { status: status.ABORTED, retry: "later" },
  Stopping: { status: status.UNAVAILABLE, retry: "later" },
  TimedOut: { status: status.DEADLINE_EXCEEDED, retry: "later" },
  DiskFull: { status: status.RESOURCE_EXHAUSTED, retry: "later" },
  Unavailable: { status: status.UNAVAILABLE, retry: "later" },
  Stopped: { status: status.CANCELLED, retry: "never" },
  // The agent's own file that is to be sent or received
  FileUnusable: { status: status.INTERNAL, retry: "never" },
  Internal: { status: status.INTERNAL, retry: "later" },
} as const satisfies Record<string, { status: status; retry: "never" | "later" | "renew" }>;

export type TransportCode = keyof typeof CODES;

export class TransportFault extends Error {
  readonly code: TransportCode;
  /** @param message  a sentence for a person, without names or figures that are private to a participant */
  constructor(code: TransportCode, message: string) {
    super(message);
    this.name = "TransportFault";
    this.code = code;
  }

  /** Whether the same request may succeed: later, with a new certificate, or never without a person's doing. */
  get retry(): "never" | "later" | "renew" {
    return CODES[this.code].retry;
  }
}

export function isTransportCode(code: string): code is TransportCode {
  return Object.hasOwn(CODES, code);
}

const REASON_KEY = "rondo-reason";

/** What a handler gives to gRPC. An error that is no fault is a defect of the operator: its text stays here. */
export function toStatus(error: unknown): Partial<StatusObject> & Error {
  const fault =
    error instanceof TransportFault
      ? error
      : new TransportFault("Internal", "The operator could not handle the request; its log says why");
  const metadata = new Metadata();
  metadata.set(REASON_KEY, fault.code);
  return Object.assign(new Error(fault.message), {
    code: CODES[fault.code].status,
    details: fault.message,
    metadata,
  });
}

/** What a client makes of an error of gRPC, or of its own files. @param endpoint  where it called, for the sentence */
export function fromServiceError(error: unknown, endpoint: string): TransportFault {
  if (error instanceof TransportFault) return error;
  const { code, details = "", metadata } = error as Partial<ServiceError>;
  if (typeof code === "string") return fromSystemError(code);
  const reason = metadata?.get(REASON_KEY)[0]?.toString();
  if (reason && isTransportCode(reason)) return new TransportFault(reason, details.slice(0, 512));
  return withoutReason(code ?? status.UNKNOWN, details, endpoint);
}

/** A code of the file system: gRPC's are numbers. */
function fromSystemError(code: string): TransportFault {
  if (code === "ENOSPC") return new TransportFault("DiskFull", "The agent's volume is full");
  return new TransportFault("FileUnusable", `The agent could not read or write its own file (${code})`);
}

// gRPC gives nothing but text for what went wrong below it, so this one place reads it.
const UNTRUSTED =
  /self[- ]signed|unable to (verify|get)|issuer|altname|ERR_TLS_CERT|CERT_|certificate (has expired|is not yet valid)/i;
const REFUSED_CERTIFICATE = /alert (bad certificate|certificate|unknown ca|handshake failure)|alert number/i;

function withoutReason(code: status, details: string, endpoint: string): TransportFault {
  if (REFUSED_CERTIFICATE.test(details)) {
    return new TransportFault("CertificateInvalid", `The operator at ${endpoint} refused this agent's certificate`);
  }
  if (UNTRUSTED.test(details)) {
    return new TransportFault(
      "OperatorUntrusted",
      `The server at ${endpoint} did not prove to be the operator of the invitation; check the endpoint, and for a proxy that breaks TLS`,
    );
  }
  switch (code) {
    case status.RESOURCE_EXHAUSTED:
      return new TransportFault("MessageTooLarge", `The operator at ${endpoint} refused a message for its size`);
    case status.DEADLINE_EXCEEDED:
      return new TransportFault("TimedOut", `The operator at ${endpoint} did not answer in time`);
    case status.CANCELLED:
      return new TransportFault("Unavailable", `The connection to the operator at ${endpoint} ended`);
    case status.UNIMPLEMENTED:
      return new TransportFault("Unavailable", `What answers at ${endpoint} is not an operator of this version`);
    default:
      return new TransportFault("Unavailable", `The operator at ${endpoint} cannot be reached`);
  }
}
