/**
 * The transcript of one session, and every byte string that a participant signs in it (secure-aggregation.md §2, §3).
 * Holds: lists are hashed in the order given, which is ascending by index; who passes one has checked it.
 * Does not: sign or verify (key-agreement.ts).
 */
import { concat, labelled, lengthPrefixed, sha256, u32, u64 } from "./bytes.ts";
import type { Advertisement, Member, SignedInput } from "./messages.ts";

/** What C0 binds a session to; hashes are 32 bytes. */
export interface SessionContext {
  /** `<trust domain>/<namespace>/<Federation name>` */
  federation: string;
  round: number;
  attempt: number;
  cohort: number;
  purpose: "delta" | "evaluation" | "subspace";
  rosterHash: Uint8Array;
  baseModelHash: Uint8Array;
  globalAdapterHash: Uint8Array;
  planHash: Uint8Array;
}

/** @param members  the cohort by idx, each with the key that the caller itself has pinned */
export function rosterHash(members: readonly Member[]): Uint8Array {
  const entries = members.map((member) => concat(lengthPrefixed(member.participant), member.identity));
  return sha256(labelled("roster", u32(members.length), ...entries));
}

/** C0 */
export function contextHash(context: SessionContext): Uint8Array {
  return sha256(
    labelled(
      "context",
      lengthPrefixed(context.federation),
      u64(context.round),
      u32(context.attempt),
      u32(context.cohort),
      lengthPrefixed(context.purpose),
      lengthPrefixed(context.rosterHash),
      lengthPrefixed(context.baseModelHash),
      lengthPrefixed(context.globalAdapterHash),
      lengthPrefixed(context.planHash),
    ),
  );
}

/** T1: who is in, and with which keys. @param advertised  U1 */
export function t1(c0: Uint8Array, advertised: readonly Omit<Advertisement, "signature">[]): Uint8Array {
  const entries = advertised.map(({ index, cPk, sPk, cmB }) => concat(u32(index), cPk, sPk, cmB));
  return sha256(labelled("t1", c0, u32(advertised.length), ...entries));
}

/** T2: who masked for whom, and with which vectors. @param inputs  U3 */
export function t2(
  transcript1: Uint8Array,
  u2: readonly number[],
  inputs: readonly Omit<SignedInput, "signature">[],
): Uint8Array {
  const entries = inputs.map(({ index, root }) => concat(u32(index), root));
  return sha256(labelled("t2", transcript1, u32(u2.length), ...u2.map(u32), u32(inputs.length), ...entries));
}

/** Signed under "advertise". */
export const advertiseBody = (c0: Uint8Array, keys: Omit<Advertisement, "signature">): Uint8Array =>
  concat(c0, u32(keys.index), keys.cPk, keys.sPk, keys.cmB);

/** Signed under "input", in an upload's manifest. */
export const inputBody = (transcript1: Uint8Array, root: Uint8Array, byteLength: number): Uint8Array =>
  concat(transcript1, root, u64(byteLength));

/** cm_b: by it a wrong reconstruction of b is told. */
export const commitmentTo = (b: Uint8Array): Uint8Array => sha256(labelled("commit-b", b));
