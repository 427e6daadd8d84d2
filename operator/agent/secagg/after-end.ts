/**
 * What the operator asks of a session whose assignment has ended: M4 once more is answered with the same bytes, another question by the
 * site's people hearing of it (secure-aggregation.md §6.1).
 */
import type { Logger } from "pino";
import type { CoordinatorMessage } from "../../secagg/messages.ts";
import type { Ledger } from "../ledger.ts";
import type { OperatorLink } from "../link.ts";
import type { AgentMetrics } from "../metrics.ts";
import { type SecureParts, SecureSession } from "./session.ts";

export interface AfterEndDeps {
  ledger: Ledger;
  link: OperatorLink;
  metrics: AgentMetrics;
  secure: SecureParts;
  log: Logger;
  now?: () => number;
}

export async function askedAfterEnd(
  of: { federation: string; round: number; attempt: number },
  message: CoordinatorMessage,
  { ledger, link, metrics, secure, log, now = Date.now }: AfterEndDeps,
): Promise<void> {
  const assignment = await ledger.assignment(of);
  const plan = assignment?.privacy === "secure" ? await ledger.plan(of) : undefined;
  if (!assignment || !plan) return log.debug({ ...of, asked: message.$case }, "step of a round that is not known");
  const deps = { ...secure, sessions: ledger.sessions, link, metrics, log, now };
  const session = await SecureSession.open(assignment, plan, deps);
  // Only a session that was RELEASED has anything left to say; it masks no more, hence no files.
  if (session.facts.state !== "RELEASED") return;
  const files = { masked: "", delta: () => Promise.reject(new Error("nothing is masked after a session's end")) };
  const outcome = await session.answer(message, files, AbortSignal.abort());
  if (outcome === "repeat") session.send(() => {});
}
