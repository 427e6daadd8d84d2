/**
 * Where a participant stands in one session: the rows of its ledger (secure-aggregation.md §6), each with exactly what that row may hold.
 * Holds: plain data; `secrets` is all that must stay secret, so that a state without it has none left.
 * Does not: decide (a file per step) or become bytes (stored.ts).
 */
import type { SecaggCode } from "../faults.ts";
import type { Advertisement, Consistency, ShareKeys, Unmask } from "../messages.ts";

/** ADVERTISED: M0 is out, or may be. To Shared or Aborted. */
export interface Advertised {
  kind: "Advertised";
  c0: Uint8Array;
  message: Advertisement;
  secrets: { cSk: Uint8Array; sSk: Uint8Array; b: Uint8Array };
}

/** SHARED: bound to one List1. To Masked or Aborted. */
export interface Shared {
  kind: "Shared";
  /** List1 */
  advertised: Advertisement[];
  t1: Uint8Array;
  message: ShareKeys;
  secrets: {
    cSk: Uint8Array;
    sSk: Uint8Array;
    b: Uint8Array;
    /** bShare_uu. sShare_uu is nowhere: u opens nothing unless it is in U3, so that nobody may ask for it. */
    ownSelfShare: Uint8Array;
  };
}

/** What u holds of v: shares of b_v and, of every v but u itself, of s_sk_v. */
export interface HeldShare {
  index: number;
  selfShare: Uint8Array;
  pairShare?: Uint8Array | undefined;
}

/** MASKED: the vector may be out. To Signed or Aborted. */
export interface Masked {
  kind: "Masked";
  t1: Uint8Array;
  /** SHA-256 that names List2's U2 and ciphertexts. */
  sharesRequest: Uint8Array;
  u2: number[];
  /** For the manifest; signature = sig_u("input", T1 ‖ root ‖ u64 byteLength). */
  input: { root: Uint8Array; byteLength: number; signature: Uint8Array };
  /** Of all of U2, ascending. */
  secrets: { shares: HeldShare[] };
}

/** SIGNED: bound to one T2. To Released or Aborted. */
export interface Signed {
  kind: "Signed";
  t1: Uint8Array;
  sharesRequest: Uint8Array;
  u3: number[];
  t2: Uint8Array;
  message: Consistency;
  secrets: { shares: HeldShare[] };
}

/** RELEASED: shares are out, or may be. Final: not even an abort takes that back. */
export interface Released {
  kind: "Released";
  t1: Uint8Array;
  sharesRequest: Uint8Array;
  u3: number[];
  t2: Uint8Array;
  message: Unmask;
}

/** ABORTED. Final: sends nothing of the session any more. */
export interface Aborted {
  kind: "Aborted";
  /** From Masked on the delta counts as spent (§6.3): the others may have opened the sum without this participant. */
  from: "Advertised" | "Shared" | "Masked" | "Signed";
  code: AbortCode;
  /** One sentence for a person; nothing private in it. */
  message: string;
  /** Participants whose doing it is, as far as it can be told. */
  accused: string[];
}

/**
 * A failed check; or: the operator or the site called it off, the round is over, a later attempt has taken its place,
 * the ledger is older than the identity's memory (§6.2, §6.5).
 */
export type AbortCode = SecaggCode | "Cancelled" | "RoundEnded" | "Superseded" | "LedgerTooOld";

export type ParticipantState = Advertised | Shared | Masked | Signed | Released | Aborted;
/** What can still be aborted. */
export type OpenState = Exclude<ParticipantState, Released | Aborted>;
