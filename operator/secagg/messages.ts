/**
 * What participants and coordinator of one secure-aggregation session say to each other (secure-aggregation.md §3), as plain data.
 * Holds: members are named by their index in the cohort, 1…n; hashes and keys are 32 raw bytes, signatures 64, a ciphertext 80.
 * Does not: travel by itself. The wire has the same fields (transport/rondo.v1.proto), so that what arrives is this already.
 */

/** M0. signature = sig_u("advertise", C0 ‖ u32 index ‖ cPk ‖ sPk ‖ cmB) */
export interface Advertisement {
  index: number;
  cPk: Uint8Array;
  sPk: Uint8Array;
  cmB: Uint8Array;
  signature: Uint8Array;
}

/** S→u. All of U1, ascending by index. */
export interface KeyList {
  advertised: Advertisement[];
}

/** Of u for `index` (M1), or of `index` for u (List2). */
export interface EncryptedShares {
  index: number;
  ciphertext: Uint8Array;
}

/** M1. ack = sig_u("t1", T1); one ciphertext for each member of U1 but u itself, ascending. */
export interface ShareKeys {
  ack: Uint8Array;
  shares: EncryptedShares[];
}

export interface IndexedSignature {
  index: number;
  signature: Uint8Array;
}

/** S→u. The acks of all of U2, u's own too; the ciphertexts for u of all of U2 but u; each ascending. */
export interface ShareList {
  acks: IndexedSignature[];
  shares: EncryptedShares[];
}

/** Of an upload's manifest. signature = sig_u("input", T1 ‖ root ‖ u64 byteLength) */
export interface SignedInput {
  index: number;
  root: Uint8Array;
  signature: Uint8Array;
}

/** S→u, asks for M3. The inputs are U3, ascending. */
export interface ConsistencyRequest {
  u2: number[];
  inputs: SignedInput[];
}

/** M3. signature = sig_u("t2", T2) */
export interface Consistency {
  signature: Uint8Array;
}

/** S→u, asks for M4: the "t2" signatures of at least t members of U3. */
export interface UnmaskRequest {
  signatures: IndexedSignature[];
}

/** One of the two, never both: the type cannot say more. */
export interface RevealedShare {
  index: number;
  share?: { $case: "selfShare"; value: Uint8Array } | { $case: "pairShare"; value: Uint8Array } | undefined;
}

/** M4. A share of b_v for v in U3, of s_sk_v for v in U2 \ U3; ascending. */
export interface Unmask {
  shares: RevealedShare[];
}

/** What a participant sends, by step. The masked input itself is an upload. */
export type ParticipantMessage =
  | { $case: "advertise"; value: Advertisement }
  | { $case: "share"; value: ShareKeys }
  | { $case: "consistency"; value: Consistency }
  | { $case: "unmask"; value: Unmask };

/** What the coordinator sends, by the step that it asks for. */
export type CoordinatorMessage =
  | { $case: "keys"; value: KeyList }
  | { $case: "shares"; value: ShareList }
  | { $case: "consistency"; value: ConsistencyRequest }
  | { $case: "unmask"; value: UnmaskRequest };

/** One member of a cohort: its idx is its place in the list, from 1. */
export interface Member {
  participant: string;
  /** Ed25519 public key, 32 bytes: of the receiver's own pins, never of a message. */
  identity: Uint8Array;
}

/** What both sides know before the first message, each from its own values. */
export interface SessionTerms {
  /** 32 bytes (transcript.ts). */
  c0: Uint8Array;
  /** The cohort of the signed plan, ascending by the bytes of participant. */
  members: readonly Member[];
  /** thresholds.ts, of the plan's cohort size; never of a message. */
  threshold: number;
  /** Exact length of a masked vector (ring.ts). */
  byteLength: number;
}
