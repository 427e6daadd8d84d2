/**
 * What both sides of a session know before its first message, out of the signed plan and the reader's own pins (secure-aggregation.md §2, §4).
 * Holds: the threshold is computed from the cohort's size and n is the plan's, whatever a message says.
 * Does not: judge the plan (agent/policy.ts refuses thresholds, scales and cohorts that are not what it computes itself).
 */
import type { Plan } from "../round/plan.ts";
import type { SessionTerms } from "./messages.ts";
import { thresholdOf } from "./thresholds.ts";
import { contextHash, rosterHash } from "./transcript.ts";
import { vectorLayout } from "./vector.ts";

/**
 * @param planHash    SHA-256 of the canonical plan as received
 * @param cohort      which of the plan's cohorts, from 0
 * @param identityOf  the Ed25519 key of a participant, 32 bytes: a participant passes its pins
 * @throws RangeError when the plan has no such cohort
 */
export function sessionTerms(
  plan: Plan,
  planHash: Uint8Array,
  cohort: number,
  identityOf: (participant: string) => Uint8Array,
): SessionTerms {
  const names = plan.secure?.cohorts[cohort]?.members;
  if (!names) throw new RangeError(`the plan has no cohort ${cohort}`);
  const members = names.map((participant) => ({ participant, identity: identityOf(participant) }));
  return {
    c0: contextHash({
      federation: plan.federation,
      round: plan.round,
      attempt: plan.attempt,
      cohort,
      purpose: plan.purpose,
      rosterHash: rosterHash(members),
      baseModelHash: rawDigest(plan.baseModel.digest),
      globalAdapterHash: rawDigest(plan.parent.digest),
      planHash,
    }),
    members,
    threshold: thresholdOf(members.length),
    byteLength: vectorLayout(plan).byteLength,
  };
}

/** @param digest  "sha256:" and 64 hex digits: the plan's schema has checked that */
const rawDigest = (digest: string): Uint8Array => new Uint8Array(Buffer.from(digest.slice("sha256:".length), "hex"));
