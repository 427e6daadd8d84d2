/**
 * The durable record of one round: all that decides its fate, as it lies in the operator's journal (space "rounds").
 * Holds: what is not in here is either in the cluster (the objects), on disk (spool, adapters) or does not matter.
 * Does not: hold the plan's bytes or the round's secret key (spaces "plans" and "round-keys"; the key is erased at the end).
 * A change of meaning takes a new `schema` number and keeps a recording of the old one in record.test.ts.
 */
import { z } from "zod";
import {
  isTerminal as isTerminalPhase,
  PARTICIPANT_STATES,
  ROUND_PHASES,
  type RoundPhase,
} from "../api/federation-round.ts";
import { sampleSchema } from "./plan.ts";

const phaseSchema = z.enum(ROUND_PHASES);

const instant = z.int().min(0);

const participantSchema = z.strictObject({
  name: z.string(),
  state: z.enum(PARTICIPANT_STATES),
  job: z.string(),
  progress: z.strictObject({ step: z.int().min(0), steps: z.int().min(0) }).optional(),
  reason: z.string(),
  message: z.string(),
  sinceMs: instant,
  /** When its trainer first ran: from then on the accept deadline has nothing to say about it. */
  startedMs: instant.optional(),
});
export type RoundParticipant = z.infer<typeof participantSchema>;

const contributionSchema = z.strictObject({
  participant: z.string(),
  /** Merkle root of the uploaded bytes, hex. */
  root: z.string(),
  byteLength: z.int().min(1),
  file: z.string(),
});
export type Contribution = z.infer<typeof contributionSchema>;

/** Of secure aggregation, in their order (secure-aggregation.md §3): each is what its members are to answer. */
export const COHORT_STEPS = ["advertise", "share", "mask", "consistency", "unmask", "complete"] as const;
export type CohortStep = (typeof COHORT_STEPS)[number];

const names = z.array(z.string()).max(256);

const cohortSchema = z.strictObject({
  /** Ascending by the bytes of their names, as in the plan: a member's index is its place, from 1. */
  members: names,
  threshold: z.int().min(1),
  step: z.enum(COHORT_STEPS),
  /** When the step began. */
  sinceMs: instant,
  /** Whose answer to the current step was taken, in the order of arrival. The bytes are in journal space "secagg". */
  answered: names,
  /** The sets of the specification; each appears when the step that makes it is closed. */
  u1: names.optional(),
  u2: names.optional(),
  u3: names.optional(),
  /** Who signed T2, and so may be asked to unmask. */
  signers: names.optional(),
  /** Of U3, and not to be waited for: what they contributed counts, but they answer no more. */
  gone: z.array(z.strictObject({ name: z.string(), reason: z.string(), message: z.string() })).max(256),
  /** `by` could not open the shares of these. */
  accusations: z.array(z.strictObject({ by: z.string(), accused: names })).max(256),
  /** Revealed wrong shares, which did no harm. */
  liars: names.optional(),
  /** It will have no sum; its members say so too. */
  failure: z
    .strictObject({ code: z.enum(["CohortTooSmall", "NotEnoughShares", "SumInvalid"]), message: z.string() })
    .optional(),
});
/** Treated as immutable, like the record that it is part of. */
export type Cohort = z.infer<typeof cohortSchema>;

const secureSchema = z.strictObject({
  /** Of a masked vector: exactly this. */
  byteLength: z.int().min(1),
  cohorts: z.array(cohortSchema).min(1).max(64),
  /** Dealt shares that do not fit together. Base64 keys: whoever enrols anew is another dealer. */
  dealers: z
    .array(
      z.strictObject({
        participant: z.string(),
        identity: z.string(),
        /**
         * Later rounds go without it. Not where exactly t answered: there one wrong share of another member makes an honest dealer look
         * the same, and whoever reveals it could have anybody left out.
         */
        leftOut: z.boolean(),
      }),
    )
    .max(256),
});

/** Who is in which cohort is drawn before there is a plan (secure-aggregation.md §6). */
const drawSchema = z.strictObject({
  /** Of this draw in the round, from 1. */
  number: z.int().min(1).max(3),
  cohortSize: z.int().min(3).max(128),
  stage: z.enum(["commit", "reveal", "drawn"]),
  untilMs: instant,
  members: z
    .array(
      z.strictObject({
        name: z.string(),
        /** Base64: commitment and its signature, then the nonce. */
        commitment: z.string().optional(),
        signature: z.string().optional(),
        nonce: z.string().optional(),
      }),
    )
    .max(256),
  /** Did not answer an earlier stage. */
  leftOut: z.array(z.strictObject({ name: z.string(), reason: z.string(), message: z.string() })).max(256),
});
export type Draw = z.infer<typeof drawSchema>;

const nextSchema = z.strictObject({
  /** Of the cohorts of the attempt before, without who is out; ascending like there. */
  cohorts: z.array(names).min(1).max(64),
  deadlines: z.discriminatedUnion("kind", [
    /** Nobody has shared: whoever trains has the time that it had. */
    z.strictObject({ kind: z.literal("kept"), acceptMs: instant, trainingMs: instant }),
    /** Nobody trains any more: so long from the making of the plan, for accepting it and sending keys. */
    z.strictObject({ kind: z.literal("anew"), withinMs: z.int().min(0) }),
  ]),
});
export type NextAttempt = z.infer<typeof nextSchema>;

const metricsSchema = z.strictObject({ trainLoss: z.number(), tokens: z.int().min(0) });
export type RoundMetrics = z.infer<typeof metricsSchema>;

export const recordSchema = z.strictObject({
  schema: z.literal(1),
  name: z.string(),
  uid: z.string(),
  federation: z.string(),
  /** Of the object's spec without cancel: the same manifest applied again under this name is this round, and does not run twice. */
  specHash: z.string().optional(),
  /** Of the Federation that gave the number: one that is created anew under its name has run nothing. */
  federationUid: z.string().optional(),
  /** Rising per federation, never reused; given when the plan is made. */
  number: z.int().min(1).optional(),
  /** From 1; a later one has the same number, parent and split, and fewer members. */
  attempt: z.int().min(1).max(1000),
  /** What made attempts: failures count against the plan's `retries`, removals before anybody shared do not. */
  attempts: z.strictObject({ failed: z.int().min(0), removals: z.int().min(0) }).optional(),
  /** While a later attempt is planned: whom its plan keeps, and until when. */
  next: nextSchema.optional(),
  phase: phaseSchema,
  phaseTimes: z.array(z.strictObject({ phase: phaseSchema, atMs: instant })).min(1),
  /** What a Pending round waits for, and since when this has been the reason. */
  waiting: z.strictObject({ for: z.string(), message: z.string(), sinceMs: instant }).optional(),
  /** While the next attempt is planned, still the one before: its parent may be fetched, its trainers go on. */
  plan: z
    .strictObject({
      /** Hex. */
      hash: z.string(),
      parentVersion: z.int().min(0),
      minimum: z.int().min(1),
      /** So many contributions are all that the round wants: nobody waits for more. Absent: everybody's. */
      enough: z.int().min(1).optional(),
      /** How many attempts may follow failed ones. */
      retries: z.int().min(0).optional(),
      /** How long a plan may take to be accepted. */
      acceptMs: z.int().min(0).optional(),
      /** Largest file that a participant may upload. */
      uploadLimitBytes: z.int().min(1),
      parentByteLength: z.int().min(1),
    })
    .optional(),
  deadlines: z
    .strictObject({
      acceptMs: instant,
      trainingMs: instant,
      /** Of secure aggregation only: when these steps end. The first ends with training, the last with aggregation. */
      shareMs: instant.optional(),
      maskMs: instant.optional(),
      consistencyMs: instant.optional(),
      aggregationMs: instant,
    })
    .optional(),
  /** How long uploads, summing and publishing may take once nobody trains any more. */
  aggregationMs: z.int().min(0).optional(),
  participants: z.array(participantSchema).max(256),
  /** With `privacy: secure`, from the plan on. */
  secure: secureSchema.optional(),
  /** Who was drawn, until there is a plan: a draw of cohorts must not draw members anew. */
  sample: sampleSchema.optional(),
  /** With more participants than a cohort takes, until there is a plan. */
  draw: drawSchema.optional(),
  contributions: z.array(contributionSchema).max(256),
  /** Of all contributors, in the order of their names; the sum that it was made of is gone. */
  candidate: z
    .strictObject({
      digest: z.string(),
      file: z.string(),
      byteLength: z.int().min(1),
      contributors: z.int().min(1),
      /** Means over all contributors, of whom there are at least three. */
      metrics: metricsSchema.optional(),
    })
    .optional(),
  /** The registry holds all of it: from here on the round can only succeed. */
  published: z.strictObject({ version: z.int().min(1), digest: z.string(), reference: z.string() }).optional(),
  bytes: z.strictObject({ up: z.int().min(0), down: z.int().min(0) }),
  outcome: z.strictObject({ reason: z.string(), message: z.string() }).optional(),
});

/** Treated as immutable: every change makes a new record. */
export type RoundRecord = z.infer<typeof recordSchema>;

export function isTerminal(record: RoundRecord): boolean {
  return isTerminalPhase(record.phase);
}

/** What a record has from the object that it is of. */
export type RoundIdentity = Pick<RoundRecord, "name" | "uid" | "federation" | "specHash">;

export function newRecord(round: RoundIdentity, nowMs: number): RoundRecord {
  return {
    schema: 1,
    ...round,
    attempt: 1,
    phase: "Pending",
    phaseTimes: [{ phase: "Pending", atMs: nowMs }],
    participants: [],
    contributions: [],
    bytes: { up: 0, down: 0 },
  };
}

export function enter(record: RoundRecord, phase: RoundPhase, nowMs: number): RoundRecord {
  const { waiting: _, ...rest } = record;
  return { ...rest, phase, phaseTimes: [...record.phaseTimes, { phase, atMs: nowMs }] };
}

export function phaseStart(record: RoundRecord): number {
  return record.phaseTimes.at(-1)!.atMs;
}

export function encodeRecord(record: RoundRecord): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(record));
}

/** @throws Error when the bytes are no record of a schema this program knows */
export function decodeRecord(bytes: Uint8Array): RoundRecord {
  return recordSchema.parse(JSON.parse(new TextDecoder().decode(bytes)));
}
