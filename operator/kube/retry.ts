/**
 * Which failed calls are sent again, and when. Pure.
 * Holds: a call that may have been done and is not idempotent is never sent twice.
 */
import type { KubeFault } from "./faults.ts";

/** Four more after the first: with the delays below about 1.5 s, within the default time of a call (10 s). */
const MAX_RETRIES = 4;
const FIRST_DELAY_MS = 100;
const LONGEST_DELAY_MS = 5_000;

/**
 * @param attempt     0 after the first failure
 * @param idempotent  doing it twice leaves the same object
 * @param uniform     one draw in [0, 1)
 * @returns milliseconds to wait, or undefined: do not try again
 */
export function retryDelayMs(
  fault: Pick<KubeFault, "code" | "retryAfterMs"> & { wasSent: boolean },
  attempt: number,
  idempotent: boolean,
  uniform: number,
): number | undefined {
  if (attempt >= MAX_RETRIES) return undefined;
  const backoffMs = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** attempt) * (0.5 + uniform);
  switch (fault.code) {
    case "TooManyRequests": // refused before anything was done
      return Math.max(fault.retryAfterMs ?? 0, backoffMs);
    case "ServerError":
      return idempotent ? Math.max(fault.retryAfterMs ?? 0, backoffMs) : undefined;
    case "Unreachable":
      return idempotent || !fault.wasSent ? backoffMs : undefined;
    default:
      return undefined;
  }
}
