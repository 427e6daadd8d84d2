/**
 * What the site's own people may read of their agent: each round's end and this site's losses. It never leaves the cluster by itself.
 */
import type { HeldOut } from "../trainer/task.ts";
import type { Assignment } from "./record.ts";

export interface RoundResult {
  federation: string;
  round: number;
  name: string;
  attempt: number;
  state: string;
  reason: string;
  message: string;
  since: string;
  heldOut: HeldOut | null;
  examples: number | null;
  trainLoss: number | null;
  seconds: number | null;
}

/** In the order of the ledger: by federation, then by round. */
export function roundResults(assignments: readonly Assignment[]): RoundResult[] {
  return assignments.map((each) => ({
    federation: each.federation,
    round: each.round,
    name: each.roundName,
    attempt: each.attempt,
    state: each.state.kind,
    reason: "reason" in each.state ? each.state.reason : "",
    message: "message" in each.state ? each.state.message : "",
    since: new Date(each.stateSinceMs).toISOString(),
    heldOut: each.result?.heldOut ?? null,
    examples: each.result?.examples ?? null,
    trainLoss: each.result?.trainLoss ?? null,
    seconds: each.result?.seconds ?? null,
  }));
}
