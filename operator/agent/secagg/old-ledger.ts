/**
 * What becomes of a secure round when this site's ledger is older than its identity's memory (secure-aggregation.md §6.5): it is given up,
 * because nobody can tell any more what was released in it.
 */

import type { Logger } from "pino";
import type { Ledger } from "../ledger.ts";
import { type Assignment, hasEnded } from "../record.ts";
import type { SecureParts } from "./session.ts";
import { abortedRow } from "./session-rows.ts";

const LEDGER_TOO_OLD = {
  reason: "LedgerTooOld",
  message: "this site's ledger was lost or put back from an older copy, and does not know what was shared since",
} as const;

/** Before anything is resumed: where the identity remembers a masked round that the ledger does not, its secure rounds are given up. */
export async function giveUpIfOld(
  ledger: Ledger,
  { secure, log, nowMs }: { secure: SecureParts; log: Logger; nowMs: number },
): Promise<void> {
  const unknown = await secure.maskedRounds.unknownTo(ledger.sessions);
  if (unknown.size === 0) return;
  const federations = [...unknown.keys()].join(", ");
  log.warn({ federations }, "the ledger is older than the identity: sessions of secure aggregation are aborted");
  secure.events.warn(undefined, LEDGER_TOO_OLD.reason, `${LEDGER_TOO_OLD.message}: ${federations}`);
  for (const assignment of await ledger.assignments()) await giveUp(assignment, ledger, nowMs);
  // Last: until all are given up, the next start has to find the ledger too old again.
  for (const [federation, round] of unknown) await ledger.sessions.saveForgotten(federation, round);
}

/** Ends an assignment that is secure and not over, and its session with it. */
async function giveUp(assignment: Assignment, ledger: Ledger, nowMs: number): Promise<void> {
  if (assignment.privacy !== "secure" || hasEnded(assignment)) return;
  const kept = await ledger.sessions.load(assignment);
  // What is released is released: the row says so, and its message may be asked for again.
  if (kept?.row.state === "RELEASED") return;
  const problem = { ...LEDGER_TOO_OLD, accused: [] };
  const row = abortedRow(problem, nowMs);
  const ended: Assignment = { ...assignment, state: { kind: "Failed", ...LEDGER_TOO_OLD }, stateSinceMs: nowMs };
  await ledger.save(ended, kept ? ledger.sessions.writes(assignment, { row }) : []);
}
