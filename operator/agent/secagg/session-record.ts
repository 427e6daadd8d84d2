/**
 * The durable record of one session of secure aggregation at this site (secure-aggregation.md §6, the ledger's table).
 * Holds: the row says where the session is and what it may say again; secrets are no part of it (session-ledger.ts keeps them apart).
 */
import { z } from "zod";

export const SESSION_STATES = ["ADVERTISED", "SHARED", "MASKED", "SIGNED", "RELEASED", "ABORTED"] as const;
export type SessionState = (typeof SESSION_STATES)[number];

const problem = z.strictObject({ reason: z.string(), message: z.string(), accused: z.array(z.string()) });
/** Why a session ended, or what it refused after its end: CamelCase and a sentence for a person; who did it, as far as it can be told. */
export type SessionProblem = z.infer<typeof problem>;

export const sessionRowSchema = z.strictObject({
  schema: z.literal(1),
  state: z.enum(SESSION_STATES),
  sinceMs: z.int().min(0),
  /** secagg/participant/session.ts storedState(): the open part. Empty when ABORTED. */
  open: z.string(),
  /** Of ABORTED. */
  problem: problem.optional(),
  /** What was asked after RELEASED and not answered: nothing can be taken back any more, but a person has to know. */
  refused: problem.optional(),
});
export type SessionRow = z.infer<typeof sessionRowSchema>;

/** What others see of a session: `rondo agent results`, and assignment.ts. */
export type SessionEnd = Pick<SessionRow, "state" | "problem" | "refused">;
