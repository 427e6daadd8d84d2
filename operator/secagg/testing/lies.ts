/**
 * What dishonest coordinators and participants do to messages. Each lie takes an honest message and gives a changed one.
 */
import { concat, sha256 } from "../bytes.ts";
import { publicKeyOf, signedBytes } from "../key-agreement.ts";
import type {
  Advertisement,
  ConsistencyRequest,
  CoordinatorMessage,
  EncryptedShares,
  IndexedSignature,
  ShareKeys,
  ShareList,
  Unmask,
  UnmaskRequest,
} from "../messages.ts";
import type { ParticipantState } from "../participant/state.ts";
import { encryptShares } from "../share-encryption.ts";
import { type Share, split } from "../shares.ts";
import { advertiseBody } from "../transcript.ts";
import { seededRandom, signAs, type TestCohort } from "./cohort.ts";

export function flipBit(bytes: Uint8Array, bit = 0): Uint8Array {
  const flipped = Uint8Array.from(bytes);
  flipped[bit >> 3]! ^= 1 << (bit & 7);
  return flipped;
}

// A coordinator's requests, each with one thing changed.

export const keysWith = (
  honest: CoordinatorMessage,
  lie: (advertised: Advertisement[]) => Advertisement[],
): CoordinatorMessage => {
  if (honest.$case !== "keys") throw new Error(`a list of keys, not ${honest.$case}`);
  return { $case: "keys", value: { advertised: lie(structuredClone(honest.value.advertised)) } };
};

export const sharesWith = (honest: CoordinatorMessage, lie: (list: ShareList) => ShareList): CoordinatorMessage => {
  if (honest.$case !== "shares") throw new Error(`a list of shares, not ${honest.$case}`);
  return { $case: "shares", value: lie(structuredClone(honest.value)) };
};

export const consistencyWith = (
  honest: CoordinatorMessage,
  lie: (request: ConsistencyRequest) => ConsistencyRequest,
): CoordinatorMessage => {
  if (honest.$case !== "consistency") throw new Error(`a list of contributions, not ${honest.$case}`);
  return { $case: "consistency", value: lie(structuredClone(honest.value)) };
};

export const unmaskWith = (
  honest: CoordinatorMessage,
  lie: (signatures: IndexedSignature[]) => UnmaskRequest["signatures"],
): CoordinatorMessage => {
  if (honest.$case !== "unmask") throw new Error(`a list of signatures, not ${honest.$case}`);
  return { $case: "unmask", value: { signatures: lie(structuredClone(honest.value.signatures)) } };
};

export const without = <T extends { index: number }>(list: readonly T[], index: number): T[] =>
  list.filter((entry) => entry.index !== index);

export const changed = <T extends { index: number }>(list: readonly T[], index: number, change: Partial<T>): T[] =>
  list.map((entry) => (entry.index === index ? { ...entry, ...change } : entry));

// A member's own messages, signed by its real key: what a dishonest member, or one that works for the coordinator, can make.

/** M0 with keys of its choice. */
export function advertisementOf(cohort: TestCohort, keys: Omit<Advertisement, "signature">): Advertisement {
  return { ...keys, signature: signAs(keys.index, signedBytes("advertise", advertiseBody(cohort.terms.c0, keys))) };
}

/** M0 with fresh keys of an unknown secret. */
export function freshKeys(index: number, seed: string): Omit<Advertisement, "signature"> {
  const random = seededRandom(seed);
  return { index, cPk: publicKeyOf(random(32)), sPk: publicKeyOf(random(32)), cmB: random(32) };
}

export const signatureOf = (index: number, label: string, ...body: Uint8Array[]): Uint8Array =>
  signAs(index, signedBytes(label, concat(...body)));

/** What a dealer sends, and what it will itself reveal later. */
export interface Dealing {
  message: ShareKeys;
  next: ParticipantState;
}

/**
 * M1 of a dealer whose sealed shares are of secrets that it did not commit to.
 * @param dealt  changes what each receiver is dealt; by default all shares are of other secrets, and fit each other
 */
export function inconsistentShares(
  cohort: TestCohort,
  index: number,
  state: ParticipantState,
  dealt: (
    shares: { selfShares: Share[]; pairShares: Share[] },
    honest: { selfShares: Share[]; pairShares: Share[] },
  ) => {
    selfShares: Share[];
    pairShares: Share[];
  } = (others) => others,
): Dealing {
  if (state.kind !== "Shared") throw new Error(`deals in state ${state.kind}`);
  const xs = state.advertised.map((entry) => entry.index);
  const random = seededRandom(`inconsistent ${index}`);
  const { threshold } = cohort.terms;
  const deal = (secret: Uint8Array) => split(secret, threshold, xs, random);
  const { selfShares, pairShares } = dealt(
    { selfShares: deal(random(32)), pairShares: deal(random(32)) },
    { selfShares: deal(state.secrets.b), pairShares: deal(state.secrets.sSk) },
  );
  const shares = state.advertised.flatMap(({ index: to, cPk }, at): EncryptedShares[] => {
    if (to === index) return [];
    const channel = { secretKey: state.secrets.cSk, publicKey: cPk, t1: state.t1, from: index, to };
    const both = { selfShare: selfShares[at]!.share, pairShare: pairShares[at]!.share };
    return [{ index: to, ciphertext: encryptShares(channel, both) }];
  });
  const ownSelfShare = selfShares[xs.indexOf(index)]!.share;
  return {
    message: { ack: state.message.ack, shares },
    next: { ...state, secrets: { ...state.secrets, ownSelfShare } },
  };
}

/** M4 with every share, or the share of one member, replaced by other bytes: not by a constant, which several liars could cancel. */
export function wrongUnmask({ shares }: Unmask, of: "all" | number = "all"): Unmask {
  return {
    shares: shares.map(({ index, share }) => ({
      index,
      share: share && (of === "all" || of === index) ? { ...share, value: sha256(share.value) } : share,
    })),
  };
}
