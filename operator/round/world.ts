/**
 * What decide() is told about everything outside the record, and what it may ask for.
 * All of it is data: a decision can be printed, compared and replayed.
 */
import type { PlanSample } from "./plan.ts";
import type { Contribution, RoundMetrics, RoundRecord } from "./record.ts";

/** A Participant that the federation's selector matches. */
export interface Candidate {
  name: string;
  enrolled: boolean;
  suspended: boolean;
  /** Dealt inconsistent shares in an earlier round of the federation, and has not enrolled anew since. */
  leftOut?: boolean;
}

export function canBeInvited({ enrolled, suspended, leftOut }: Candidate): boolean {
  return enrolled && !suspended && !leftOut;
}

/** The Federation merged with the round's own overrides, in base units. */
export interface Terms {
  minimum: number;
  acceptMs: number;
  trainingMs: number;
  aggregationMs: number;
  /** Attempts that may follow failed ones. */
  retries: number;
}

export type FederationView =
  | { kind: "unknown" }
  | { kind: "invalid"; problem: string }
  | {
      kind: "known";
      terms: Terms;
      candidates: Candidate[];
      /** Starts nothing; what runs goes on. */
      suspended: boolean;
      /** Version 0 is published (or a later one); else why not yet, or why never. */
      adapter: { kind: "ready" } | { kind: "making" } | { kind: "failed"; problem: string };
    };

export type PlanResult =
  | {
      kind: "made";
      /** So that the plan of the attempt before is not taken for that of the next. */
      attempt: number;
      number: number;
      hash: string;
      parentVersion: number;
      parentByteLength: number;
      uploadLimitBytes: number;
      roster: string[];
      minimum: number;
      /** With a sample: its count. */
      enough?: number;
      aggregationMs: number;
      deadlines: NonNullable<RoundRecord["deadlines"]>;
      /** With `privacy: secure`. */
      secure?: { byteLength: number; cohorts: Array<{ members: string[]; threshold: number }> };
    }
  /** There are more participants than a cohort takes: who is where is drawn first. */
  | { kind: "draw"; number: number; cohortSize: number; members: string[]; sample?: PlanSample }
  /** `code`: the settings can never give a plan; absent: PlanFailed. `atMs`: when it failed. */
  | { kind: "failed"; problem: string; retry: boolean; code?: "InvalidSettings"; atMs?: number };

/** A contribution that could be opened is in the sum; one that could not names its fault. */
export interface SumView {
  added: string[];
  refused: Array<{ participant: string; reason: string; message: string }>;
  /** Of a secure round: cohorts whose masks are gone, with the members whose share was wrong although the secret could be found without it. */
  opened?: Array<{ cohort: number; liars: string[] }>;
  /** And cohorts whose masks cannot be removed. */
  closed?: ClosedCohort[];
  /** The worker itself failed: the disk, the memory, the parent. */
  problem?: string;
}

export interface ClosedCohort {
  cohort: number;
  code: "InconsistentDealer" | "NotEnoughShares" | "SumInvalid";
  message: string;
  accused: Array<{ participant: string /** Base64. */; identity: string }>;
}

export type PublishResult =
  | { kind: "published"; version: number; digest: string; reference: string }
  | { kind: "failed"; problem: string; unreachable: boolean; atMs: number; tries: number };

export type CandidateResult =
  | { kind: "made"; digest: string; file: string; byteLength: number; metrics?: RoundMetrics }
  /** `retry`: it may succeed later (for want of room); when it was tried last, and how often in a row. Absent: never. */
  | { kind: "failed"; problem: string; retry?: { atMs: number; tries: number } };

/** The results are those of this process; a restart starts from none and does the work again. */
export interface World {
  nowMs: number;
  /** The object carries a deletionTimestamp. */
  deleting: boolean;
  /** spec.cancel */
  cancelled: boolean;
  /** The operator's volume has no room: no plan, no upload. Absent: it has. */
  storage?: { problem: string };
  federation: FederationView;
  /** An unfinished round of the same federation that goes first. */
  earlier?: string;
  connected: ReadonlySet<string>;
  /** Participants of this round that were suspended or deleted since. */
  revoked: ReadonlySet<string>;
  plan?: PlanResult;
  sum: SumView;
  candidate?: CandidateResult;
  publish?: PublishResult;
  /** A push is under way; it is aborted at the deadline and then says how it ended. */
  publishing: boolean;
  /** AdapterVersion is there and active. */
  activated: boolean;
  /** Why the last try to write the AdapterVersion was refused; absent where there was none, or the API server did not answer. */
  activationProblem?: string;
}

export type Action =
  /** Of the record's attempt: a later one keeps `record.next` of the plan before, and everything else that is in it. */
  | { do: "plan" }
  /** Spool files, answers, machines and the sum of this attempt; its plan stays. Done before anything of a later one. */
  | { do: "dropAttempt"; attempt: number }
  /** To each of these that has a session which was not sent it yet. */
  | { do: "sendPlan"; participants: string[] }
  | { do: "cancel"; participants: string[]; reason: string; message: string }
  /** To each of these that is connected and was not sent it yet: what its draw, or its cohort's step, asks. */
  | { do: "announceDraw"; participants: string[] }
  | { do: "announce"; participants: string[] }
  | { do: "unmask"; cohort: number }
  | { do: "sum"; contributions: Contribution[] }
  | { do: "makeCandidate"; contributions: Contribution[] }
  | { do: "publish" }
  | { do: "abortPublish" }
  | { do: "activate" }
  /** Spool files, the round's secret key, the sum. */
  | { do: "cleanUp" };

export interface Decision {
  record: RoundRecord;
  actions: Action[];
  /** When to decide again if nothing happens before. */
  lookAgainAtMs?: number;
}
