/**
 * JSON lines on standard output. A line is a constant sentence plus fields (style.md 15).
 * Holds: fields that could carry a secret are censored wherever they stand in the first three levels. That is a net under the
 *   rope walker, not the rope: nobody logs objects whose content they do not know.
 */
import { type DestinationStream, type Logger, pino, stdSerializers } from "pino";

export const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

const SECRET_FIELDS = [
  "token",
  "joinToken",
  "password",
  "authorization",
  "Authorization",
  "privateKey",
  "secret",
  "data",
  "stringData",
  "key.pem",
];

/** @param destination  standard output unless a test wants to read along */
export function createLogger(
  { level, name }: { level: LogLevel; name: string },
  destination?: DestinationStream,
): Logger {
  const paths = SECRET_FIELDS.flatMap((field) => ["", "*.", "*.*."].map((prefix) => redactPath(prefix, field)));
  const options = {
    level,
    base: { process: name },
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    formatters: { level: (label: string) => ({ level: label }) },
    redact: { paths, censor: "[secret]" },
    serializers: { err: serializeError },
  };
  return destination ? pino(options, destination) : pino(options);
}

function redactPath(prefix: string, field: string): string {
  return /^\w+$/.test(field) ? `${prefix}${field}` : `${prefix.replace(/\.$/, "")}["${field}"]`;
}

/** Faults carry a code and are expected; their stack says nothing. For the rest it says everything. */
function serializeError(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const { code, reason, status } = error as { code?: unknown; reason?: unknown; status?: unknown };
  if (code !== undefined && error.name.endsWith("Fault")) {
    return { type: error.name, code, reason, status, message: error.message };
  }
  return stdSerializers.err(error);
}
