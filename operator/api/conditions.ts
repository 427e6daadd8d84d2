/**
 * Conditions of all four resources: their types and reasons, and how a list of them changes (api.md, kstatus).
 * Holds: lastTransitionTime changes only with status; Reconciling and Stalled are present only while true.
 * Does not: read the clock, nor decide what is true.
 */
import { z } from "zod";
import { listMap } from "./cel.ts";
import { instant } from "./quantities.ts";

export const conditionSchema = z
  .object({
    type: z.string().min(1).max(64),
    status: z.enum(["True", "False", "Unknown"]),
    reason: z.string().min(1).max(128),
    message: z.string().max(1024),
    observedGeneration: z.int().min(0).optional(),
    lastTransitionTime: instant,
  })
  .describe("What was observed about one aspect of the object, as metav1.Condition.");

export const conditionsSchema = z.array(conditionSchema).max(16).meta(listMap("type"));

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

/** Every reason that Rondo writes, with what it means. CamelCase, as metav1.Condition wants. */
export const REASONS = {
  // Federation
  Ready: "the federation has an active adapter and enough participants",
  Initialising: "version 0 of the adapter is being made or fetched",
  InitialiseFailed: "version 0 of the adapter could not be made",
  TooFewParticipants: "fewer participants than spec.participants.minimum match and are connected",
  EnoughParticipants: "at least spec.participants.minimum participants match and are connected",
  RoundsDone: "spec.rounds.count rounds have been run",
  // FederationRound, while it runs: the phase is the reason
  Pending: "the round waits for its federation or for an earlier round",
  Planning: "participants are being chosen and the plan is being signed",
  Training: "participants train",
  Aggregating: "contributions are being summed",
  Publishing: "the candidate is being pushed to the registry",
  // FederationRound, at its end
  Succeeded: "the adapter is published and active",
  FederationNotFound: "spec.federation names no Federation in this namespace",
  InvalidSettings: "the federation and the overrides of the round contradict each other",
  QuorumLost: "too few contributions arrived in time",
  DeadlineExceeded: "a phase did not end by its deadline",
  AggregationFailed: "the contributions could not be summed",
  PublishFailed: "the registry did not take the adapter",
  Cancelled: "the round was deleted before it ended",
  // Participant
  Enrolled: "the site has enrolled",
  NotEnrolled: "the site has not used its invitation",
  Suspended: "spec.suspended is true",
  Connected: "the agent's stream is open",
  Disconnected: "the agent's stream is closed",
} as const;

export type Reason = keyof typeof REASONS;

/**
 * The list with this condition in it; other types are left as they are, and the order stays.
 * @param nowMs milliseconds since 1970; used only where the status is another than before
 */
export function setCondition(conditions: readonly Condition[], update: ConditionUpdate, nowMs: number): Condition[] {
  const before = conditions.find((c) => c.type === update.type);
  const lastTransitionTime = before?.status === update.status ? before.lastTransitionTime : wholeSeconds(nowMs);
  const after = { ...update, lastTransitionTime };
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

/** metav1.Time has no fraction; with one, server-side apply would see a change in every write. */
function wholeSeconds(nowMs: number): string {
  return new Date(nowMs).toISOString().replace(/\.\d{3}Z$/, "Z");
}
