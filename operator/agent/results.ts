/**
 * What the site's own people may read of their agent: each round's end and this site's losses. It never leaves the cluster by itself.
 */
import type { HeldOut } from "../trainer/task.ts";
import type { Ledger } from "./ledger.ts";
import type { Assignment } from "./record.ts";
import type { SessionProblem } from "./secagg/session-record.ts";

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
  /** Of secure aggregation: where it stands or how it ended, why it was aborted, and what was asked after its end; null: none was begun. */
  session: { state: string; since: string; problem: SessionProblem | null; refused: SessionProblem | null } | null;
}

/** In the order of the ledger: by federation, then by round. */
export async function roundResults(ledger: Pick<Ledger, "assignments" | "sessions">): Promise<RoundResult[]> {
  return Promise.all((await ledger.assignments()).map((each) => resultOf(ledger, each)));
}

async function resultOf({ sessions }: Pick<Ledger, "sessions">, each: Assignment): Promise<RoundResult> {
  const row = await sessions.row(each);
  return {
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
    session: row
      ? {
          state: row.state,
          since: new Date(row.sinceMs).toISOString(),
          problem: row.problem ?? null,
          refused: row.refused ?? null,
        }
      : null,
  };
}
