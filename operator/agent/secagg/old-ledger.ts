/**
 * What becomes of a secure round when this site's ledger is older than its identity's memory (secure-aggregation.md §6.5): it is given up,
 * because nobody can tell any more what was released in it.
 */

import type { Ledger } from "../ledger.ts";
import { type Assignment, hasEnded } from "../record.ts";
import type { SessionRow } from "./session-record.ts";

export const LEDGER_TOO_OLD = {
  reason: "LedgerTooOld",
  message: "this site's ledger was lost or put back from an older copy, and does not know what was shared since",
} as const;

/** Ends an assignment that is secure and not over, and its session with it. */
export async function giveUp(assignment: Assignment, ledger: Ledger, nowMs: number): Promise<void> {
  if (assignment.privacy !== "secure" || hasEnded(assignment)) return;
  const kept = await ledger.sessions.load(assignment);
  // What is released is released: the row says so, and its message may be asked for again.
  if (kept?.row.state === "RELEASED") return;
  const problem = { ...LEDGER_TOO_OLD, accused: [] };
  const row: SessionRow = { schema: 1, state: "ABORTED", sinceMs: nowMs, open: "", problem };
  const ended: Assignment = { ...assignment, state: { kind: "Failed", ...LEDGER_TOO_OLD }, stateSinceMs: nowMs };
  await ledger.save(ended, kept ? ledger.sessions.writes(assignment, { row }) : []);
}
