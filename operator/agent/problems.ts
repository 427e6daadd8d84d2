/**
 * What an assignment makes of errors: those that no further try will mend, with their reason; and a sentence for those that may pass.
 * Holds: only our own faults have sentences for a person.
 */
import { SecaggFault } from "../secagg/faults.ts";
import { sentence } from "../trainer/observe-job.ts";
import { AdapterFault } from "./delta.ts";
import { JobFault } from "./jobs.ts";
import { OperatorFault } from "./link.ts";

import { isDiskFull, STORAGE_FULL } from "./storage.ts";

export type Problem = { reason: string; message: string };

/** What no further try will mend. */
export function finalProblem(error: unknown): Problem | undefined {
  if (error instanceof AdapterFault || error instanceof JobFault || error instanceof OperatorFault) {
    // An OperatorFault's words are the operator's: a person reads them in a terminal.
    return { reason: error.reason, message: sentence(error.message, "") };
  }
  return error instanceof SecaggFault ? { reason: error.code, message: error.message } : undefined;
}

/** undefined: an interruption, which says nothing about why. */
export function problemOf(error: unknown): Problem | undefined {
  const { code, name, message } = error as { code?: unknown; name?: string; message?: string };
  if (name === "AbortError" || name === "TimeoutError" || code === "Stopped") return undefined;
  if (isDiskFull(error)) return STORAGE_FULL;
  if (typeof code === "string" && name?.endsWith("Fault")) return { reason: code, message: message ?? "" };
  return { reason: "AgentProblem", message: "the agent could not go on; its log at the site says why" };
}

/** The trainer's last words behind the reason, where the site's policy shares them. */
export function quoting<S extends Problem>(state: S, trainerError: string): S {
  const tail = trainerError.replace(/\s+/g, " ").trim().slice(-160);
  return { ...state, message: `${state.message.slice(0, 90)}: ${tail}` };
}

const BACKOFF = { least: 500, most: 15_000 };

/** Until what failed so many times in a row is tried again. */
export function pauseMs(failures: number, { least, most } = BACKOFF): number {
  // Math.random: jitter only.
  return Math.min(most, least * 2 ** Math.min(10, failures - 1)) * (0.5 + Math.random() / 2);
}
