/**
 * What can go wrong with an API call, as one error with a code.
 * Holds: the message never contains a request or response body; only the Status message of the API server, cut to
 * MAX_MESSAGE, and for Secrets not even that (validation messages quote values).
 */
export type KubeFaultCode =
  | "Unauthorized"
  | "Forbidden"
  | "NotFound"
  | "AlreadyExists"
  | "Conflict"
  | "Invalid"
  | "BadRequest"
  | "Gone" // the resourceVersion is too old (410): list again
  | "TooManyRequests"
  | "ServerError" // other 5xx
  | "Timeout" // no answer in time; whether the server did it is unknown
  | "Unreachable" // no connection, or it broke
  | "Aborted" // the caller's signal
  | "Unexpected";

const MAX_MESSAGE = 1024;

export class KubeFault extends Error {
  override readonly name = "KubeFault";
  readonly code: KubeFaultCode;
  /** HTTP status; absent when there was no answer. */
  readonly status?: number;
  /** The Status object's reason, such as "FieldValueInvalid" or "Expired". */
  readonly reason?: string;
  /** How long the server asks to wait. */
  readonly retryAfterMs?: number;

  constructor(
    code: KubeFaultCode,
    message: string,
    more: { status?: number; reason?: string; retryAfterMs?: number } = {},
  ) {
    super(message.length > MAX_MESSAGE ? `${message.slice(0, MAX_MESSAGE - 1)}…` : message);
    this.code = code;
    if (more.status !== undefined) this.status = more.status;
    if (more.reason !== undefined) this.reason = more.reason;
    if (more.retryAfterMs !== undefined) this.retryAfterMs = more.retryAfterMs;
  }
}

export function isKubeFault(error: unknown, ...codes: KubeFaultCode[]): error is KubeFault {
  return error instanceof KubeFault && (codes.length === 0 || codes.includes(error.code));
}

type Status = {
  kind?: string;
  code?: number;
  reason?: string;
  message?: string;
  details?: { retryAfterSeconds?: number };
};

/**
 * @param what    the call in words, "get jobs demo/r1-clinic-1": it opens the message
 * @param body    the answer, which may or may not be a Status
 * @param secret  the object is a Secret: leave the server's words out
 */
export function faultOfAnswer(
  what: string,
  status: number,
  body: string,
  more: { retryAfter?: string | undefined; secret: boolean },
): KubeFault {
  const parsed = parseStatus(body);
  const said = more.secret || !parsed?.message ? (parsed?.reason ?? `HTTP ${status}`) : parsed.message;
  const waitSeconds = parsed?.details?.retryAfterSeconds ?? Number(more.retryAfter ?? Number.NaN);
  return new KubeFault(codeOf(status, parsed?.reason), `${what}: ${said}`, {
    status,
    ...(parsed?.reason ? { reason: parsed.reason } : {}),
    ...(waitSeconds >= 0 ? { retryAfterMs: waitSeconds * 1000 } : {}),
  });
}

/** An ERROR event of a watch carries a Status with the code inside. */
export function faultOfStatus(what: string, object: unknown): KubeFault {
  const status = object as Status;
  const code = status?.code ?? 500;
  return new KubeFault(codeOf(code, status?.reason), `${what}: ${status?.message ?? "error event without a Status"}`, {
    status: code,
    ...(status?.reason ? { reason: status.reason } : {}),
  });
}

function parseStatus(body: string): Status | undefined {
  if (!body.startsWith("{")) return undefined;
  try {
    const parsed = JSON.parse(body) as Status;
    return parsed.kind === "Status" ? parsed : undefined;
  } catch {
    return undefined;
  }
}

function codeOf(status: number, reason: string | undefined): KubeFaultCode {
  switch (status) {
    case 400:
      return "BadRequest";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "NotFound";
    case 409:
      return reason === "AlreadyExists" ? "AlreadyExists" : "Conflict";
    case 410:
      return "Gone";
    case 422:
      return "Invalid";
    case 429:
      return "TooManyRequests";
    default:
      return status >= 500 ? "ServerError" : "Unexpected";
  }
}
