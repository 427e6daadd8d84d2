/**
 * Conditions of all four resources: their types, and how a list of them changes (api.md, kstatus).
 * Holds: lastTransitionTime changes only with status; Reconciling and Stalled are present only while true.
 * Does not: read the clock, nor decide what is true.
 */
import { z } from "zod";
import { listMap } from "./cel.ts";
import { instant } from "./quantities.ts";

/** In UTF-16 units, of which a text has at least as many as the characters that the API server counts. */
export const CONDITION_MESSAGE_MAX = 1024;

export const conditionSchema = z.object({
  type: z.string().min(1).max(64),
  status: z.enum(["True", "False", "Unknown"]),
  reason: z.string().min(1).max(128),
  message: z.string().max(CONDITION_MESSAGE_MAX),
  observedGeneration: z.int().min(0).optional(),
  lastTransitionTime: instant,
});

export const conditionsSchema = z.array(conditionSchema).max(16).meta(listMap("type")).describe("As metav1.Condition.");

export type Condition = z.infer<typeof conditionSchema>;
export type ConditionStatus = Condition["status"];
/** A condition before it is known whether its status is new. */
export type ConditionUpdate = Omit<Condition, "lastTransitionTime">;

/** Federation's summary: rounds can start. False says why not in one sentence. */
export const READY = "Ready";
/** Federation: at least `minimum` enrolled, connected and unsuspended participants match the selector. */
export const PARTICIPANTS_AVAILABLE = "ParticipantsAvailable";
/** FederationRound's summary: Unknown until the round ends, then True or False. */
export const SUCCEEDED = "Succeeded";
/** FederationRound: the plan is signed; its hash and deadlines are in status.plan. */
export const PLANNED = "Planned";
/** FederationRound: at least `minimum` contributions arrived. */
export const QUORUM_REACHED = "QuorumReached";
/** FederationRound: a candidate adapter was computed from the contributions. */
export const AGGREGATED = "Aggregated";
/** FederationRound: the candidate is in the registry and has an AdapterVersion. */
export const PUBLISHED = "Published";
/** Participant: an identity key is on record and its certificate was issued. */
export const ENROLLED = "Enrolled";
/** Participant: its agent's stream is open. */
export const CONNECTED = "Connected";
/** kstatus: work is going on. Only while true. */
export const RECONCILING = "Reconciling";
/** kstatus: nothing will happen without a person. Only while true. */
export const STALLED = "Stalled";

/**
 * The list with this condition in it; other types are left as they are, and the order stays. A message that the API server would
 * refuse for its length is cut: a status that is not written because of one long sentence would say nothing at all.
 * @param nowMs milliseconds since 1970; used only where the status is another than before
 */
export function setCondition(conditions: readonly Condition[], update: ConditionUpdate, nowMs: number): Condition[] {
  const before = conditions.find((c) => c.type === update.type);
  const lastTransitionTime = before?.status === update.status ? before.lastTransitionTime : wholeSeconds(nowMs);
  const after = { ...update, message: cut(update.message), lastTransitionTime };
  return before ? conditions.map((c) => (c === before ? after : c)) : [...conditions, after];
}

export function removeCondition(conditions: readonly Condition[], type: string): Condition[] {
  return conditions.filter((c) => c.type !== type);
}

export function findCondition(conditions: readonly Condition[] | undefined, type: string): Condition | undefined {
  return conditions?.find((c) => c.type === type);
}

export function isTrue(conditions: readonly Condition[] | undefined, type: string): boolean {
  return findCondition(conditions, type)?.status === "True";
}

/**
 * How a reconcile found the object: `done` (nothing left to do), `progressing` (it will go on by itself),
 * `waiting` (not ready, and only others can change that: kstatus takes it for unfinished), `stalled` (a person has to act).
 */
export type Outcome = {
  state: "done" | "progressing" | "waiting" | "stalled";
  reason: string;
  message: string;
};

const SUMMARY_STATUS = { done: "True", progressing: "Unknown", waiting: "False", stalled: "False" } as const;

/**
 * Sets the summary condition and Reconciling or Stalled beside it, as kstatus, Flux and Argo CD read them.
 * @param summary READY or SUCCEEDED
 */
export function summarise(
  conditions: readonly Condition[],
  summary: typeof READY | typeof SUCCEEDED,
  { state, reason, message }: Outcome,
  { observedGeneration, nowMs }: { observedGeneration: number; nowMs: number },
): Condition[] {
  const common = { reason, message, observedGeneration };
  let result = setCondition(conditions, { type: summary, status: SUMMARY_STATUS[state], ...common }, nowMs);
  for (const [type, holds] of [
    [RECONCILING, state === "progressing"],
    [STALLED, state === "stalled"],
  ] as const) {
    result = holds ? setCondition(result, { type, status: "True", ...common }, nowMs) : removeCondition(result, type);
  }
  return result;
}

function cut(message: string): string {
  return message.length <= CONDITION_MESSAGE_MAX ? message : `${message.slice(0, CONDITION_MESSAGE_MAX - 1)}…`;
}

/** metav1.Time has no fraction; with one, server-side apply would see a change in every write. */
function wholeSeconds(nowMs: number): string {
  return new Date(nowMs).toISOString().replace(/\.\d{3}Z$/, "Z");
}
