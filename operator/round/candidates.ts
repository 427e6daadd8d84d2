/** Of whose contributions a candidate is made, when it is tried again, and how the round goes on once it is there. */
import type { RoundFault } from "./faults.ts";
import { pauseMs } from "./pauses.ts";
import { type Contribution, enter, type RoundRecord } from "./record.ts";
import type { Action, CandidateResult, Decision, World } from "./world.ts";

/** A mean over fewer tells on one of them. */
const FEWEST_FOR_METRICS = 3;

export interface Making {
  actions: Action[];
  /** When to look again, if something is to be tried again then. */
  againMs?: number;
}

export function contributing(record: RoundRecord) {
  const names = new Set(record.participants.filter((p) => p.state === "Contributed").map((p) => p.name));
  return record.contributions.filter((c) => names.has(c.participant));
}

/** After a failure that may pass, once its pause is over. */
export function makeCandidate(contributions: Contribution[], { candidate, nowMs }: World): Making {
  const tried = candidate?.kind === "failed" ? candidate.retry : undefined;
  const dueMs = tried ? tried.atMs + pauseMs(tried.tries) : nowMs;
  return nowMs >= dueMs ? { actions: [{ do: "makeCandidate", contributions }] } : { actions: [], againMs: dueMs };
}

/** @param endMs  when adding up ends at the latest */
export function candidateFault({ candidate, sum, nowMs }: World, endMs: number): RoundFault | undefined {
  const failure = candidate?.kind === "failed" ? candidate : undefined;
  const problem = failure?.problem ?? sum.problem;
  const isFinal = sum.problem !== undefined || (failure && !failure.retry);
  if (problem !== undefined && (isFinal || nowMs >= endMs)) return { code: "AggregationFailed", problem };
  return nowMs >= endMs ? { code: "DeadlineExceeded" } : undefined;
}

export function publishNext(
  record: RoundRecord,
  { digest, file, byteLength, metrics }: Extract<CandidateResult, { kind: "made" }>,
  nowMs: number,
): Decision {
  const contributors = contributing(record).length;
  const shown = contributors >= FEWEST_FOR_METRICS && metrics !== undefined ? { metrics } : {};
  const next: RoundRecord = {
    ...enter(record, "Publishing", nowMs),
    candidate: { digest, file, byteLength, contributors, ...shown },
  };
  return { record: next, actions: [{ do: "publish" }], lookAgainAtMs: nowMs + record.aggregationMs! };
}
