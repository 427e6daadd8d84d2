/**
 * The durable record of one assignment: this site's part in one round, as it lies in the agent's ledger (ledger.ts).
 * Holds: everything that decides what happens next is in here, in the cluster or in the work folder; a state carries what only it needs.
 */
import { z } from "zod";
import { resultSchema } from "../trainer/task.ts";

const instant = z.int().min(0);
const reasoned = { reason: z.string(), message: z.string() };
/** Of a session of secure aggregation: participants whose doing the end is. */
const accused = z.array(z.string()).optional();

/**
 * Accepted → JobCreated → Training → Trained → Sealed or Prepared → Contributed; from any of these but the last to Failed or Cancelled. Refused
 * is an end of its own.
 * - Accepted: the plan is durable and may be answered; no Job yet.
 * - JobCreated: the Job was created and has not been seen running.
 * - Training: it was; the accept deadline has nothing more to say.
 * - Trained: the trained adapter is on disk and the trainer was told so; it will not be trained again.
 * - Sealed (trusted rounds): the file to upload is on disk; from here on exactly these bytes are uploaded.
 * - Prepared (secure rounds): the delta is on disk; the rest is its session's (secagg/session-record.ts), and a session that is RELEASED or
 *   ABORTED ends the assignment.
 */
export const assignmentStateSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("Accepted") }),
  z.strictObject({ kind: z.literal("JobCreated") }),
  z.strictObject({ kind: z.literal("Training") }),
  z.strictObject({ kind: z.literal("Trained") }),
  z.strictObject({ kind: z.literal("Sealed"), byteLength: z.int().min(1), root: z.string() }),
  z.strictObject({ kind: z.literal("Prepared") }),
  z.strictObject({ kind: z.literal("Contributed") }),
  z.strictObject({ kind: z.literal("Refused"), ...reasoned }),
  z.strictObject({ kind: z.literal("Failed"), ...reasoned, accused }),
  z.strictObject({ kind: z.literal("Cancelled"), ...reasoned }),
]);
export type AssignmentState = z.infer<typeof assignmentStateSchema>;

export const assignmentSchema = z.strictObject({
  schema: z.literal(1),
  federation: z.string(),
  round: z.int().min(1),
  roundName: z.string(),
  attempt: z.int().min(1),
  /** The attempt in which the work began, whose name Job and work folder have. Absent: in this one. */
  began: z.int().min(1).optional(),
  purpose: z.literal("delta"),
  participant: z.string(),
  /** SHA-256 of the plan's bytes, hex. */
  planHash: z.string(),
  /** Absent: trusted. */
  privacy: z.literal("secure").optional(),
  /** By this agent's clock: its time of receipt + (deadline − sent). */
  deadlines: z.strictObject({ acceptMs: instant, trainingMs: instant, aggregationMs: instant }),
  receivedMs: instant,
  /** metadata.name of the trainer's Job. */
  job: z.string(),
  /** The trainer's seed: random, the same for every attempt of the round. */
  seed: z.int().min(0),
  /** Opens the task API to this round's trainer; erased when the assignment ends. */
  token: z.string().optional(),
  state: assignmentStateSchema,
  stateSinceMs: instant,
  /** The trainer's own words; stays at the site. */
  result: resultSchema.optional(),
  /** The operator has acknowledged the last word: refusal or failure. */
  told: z.boolean(),
  /** Job, Secret, token and files are gone. */
  cleaned: z.boolean(),
});
export type Assignment = z.infer<typeof assignmentSchema>;

/** A later attempt of the round has taken over Job, folder, token and delta (attempts.ts): Cancelled with this reason. */
export const SUPERSEDED = "Superseded";

export type EndKind = "Contributed" | "Refused" | "Failed" | "Cancelled";

export function hasEnded(assignment: Assignment): boolean {
  const { kind } = assignment.state;
  return kind === "Contributed" || kind === "Refused" || kind === "Failed" || kind === "Cancelled";
}

/** Its trainer has handed nothing back. Accepted too: a Job may be quicker than our writing down that it exists. */
export function isInTraining({ state: { kind } }: Assignment): boolean {
  return kind === "Accepted" || kind === "JobCreated" || kind === "Training";
}

/** What names an assignment in the ledger; sorts by federation, then by round, then by attempt. */
export function assignmentKey(work: { federation: string; round: number; attempt: number }): string {
  return `${roundKey(work)}${String(work.attempt).padStart(4, "0")}`;
}

/** What the keys of all attempts of a round begin with. */
export function roundKey(work: { federation: string; round: number }): string {
  return `${work.federation}#${String(work.round).padStart(16, "0")}#`;
}
