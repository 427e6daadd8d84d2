/**
 * List2 → M2: that all who share saw the same transcript, their shares for this participant, and the keys of its masks (secure-aggregation.md §3).
 * Exits of Shared: Masked, once the masked vector is on disk; or a fault for which the session aborts.
 * Does not: mask (masks.ts, in a worker) or upload (transport).
 */
import { concat, labelled, sameBytes, sha256, u32 } from "../bytes.ts";
import { SecaggFault } from "../faults.ts";
import { agreementKey, pairMaskKey, selfMaskKey, signedBytes, verifySigned } from "../key-agreement.ts";
import type { MaskKey } from "../masks.ts";
import type { EncryptedShares, SessionTerms, ShareList } from "../messages.ts";
import { decryptShares } from "../share-encryption.ts";
import { inputBody } from "../transcript.ts";
import type { ParticipantDeps } from "./deps.ts";
import { checkEnough, checkMembers, identityOf, isSameList, isSubset, nameOf, strangeness } from "./lists.ts";
import type { HeldShare, Masked, Shared } from "./state.ts";

/** What List2 opened; lives from there to Masked, in memory only. */
export interface Opened {
  sharesRequest: Uint8Array;
  u2: number[];
  shares: HeldShare[];
  /** One for u itself and one for every other member of U2; whoever has applied them wipes them. */
  keys: MaskKey[];
}

/** The masked vector's file, as it lies on disk. */
export interface MaskedVector {
  /** inputRoot: Merkle root of RFC 6962 over leaves of 2^20 bytes */
  root: Uint8Array;
  byteLength: number;
}

/** @throws SecaggFault "RosterDiffers", "TooFewMembers", "TranscriptDiffers", "BadShare" (accuses the sender) */
export function openShares(deps: ParticipantDeps, state: Shared, list: ShareList): Opened {
  const u2 = list.acks.map(({ index }) => index);
  checkSharers(deps, state, u2, list.shares);
  for (const { index, signature } of list.acks) {
    if (verifySigned(identityOf(deps.terms, index), "t1", state.t1, signature)) continue;
    throw new SecaggFault(
      "TranscriptDiffers",
      `${nameOf(deps.terms, index)} has not signed the round that was shown here`,
    );
  }
  return {
    sharesRequest: sharesRequestOf(u2, list.shares),
    u2,
    shares: heldShares(deps, state, list.shares),
    keys: maskKeys(deps, state, u2),
  };
}

/** Shared → Masked. Only when the vector is on disk: from here on it may be seen, and is never made again. */
export function masked(
  deps: ParticipantDeps,
  state: Shared,
  opened: Opened,
  { root, byteLength }: MaskedVector,
): Masked {
  if (byteLength !== deps.terms.byteLength) {
    throw new RangeError(`a masked vector of this plan has ${deps.terms.byteLength} bytes, not ${byteLength}`);
  }
  const signature = deps.sign(signedBytes("input", inputBody(state.t1, root, byteLength)));
  return {
    kind: "Masked",
    t1: state.t1,
    sharesRequest: opened.sharesRequest,
    u2: opened.u2,
    input: { root, byteLength, signature },
    secrets: { shares: opened.shares },
  };
}

/** Whether the list is the one that led into a state after Shared. */
export function isSameShares(terms: SessionTerms, sharesRequest: Uint8Array, list: ShareList): boolean {
  const u2 = list.acks.map(({ index }) => index);
  const senders = list.shares.map(({ index }) => index);
  if (strangeness(terms, u2) ?? strangeness(terms, senders)) return false;
  return sameBytes(sharesRequestOf(u2, list.shares), sharesRequest);
}

/** Names a request: U2 and the ciphertexts. The acks are left out, because a dishonest member can sign one T1 in many ways. */
function sharesRequestOf(u2: readonly number[], shares: readonly EncryptedShares[]): Uint8Array {
  const entries = shares.map(({ index, ciphertext }) => concat(u32(index), u32(ciphertext.length), ciphertext));
  return sha256(labelled("list2", u32(u2.length), ...u2.map(u32), ...entries));
}

function checkSharers(
  { terms, own }: ParticipantDeps,
  { advertised }: Shared,
  u2: readonly number[],
  shares: readonly EncryptedShares[],
): void {
  checkMembers(terms, u2, "RosterDiffers");
  const u1 = advertised.map(({ index }) => index);
  if (!isSubset(u2, u1))
    throw new SecaggFault("RosterDiffers", "the coordinator lists a member that advertised no keys");
  if (!u2.includes(own)) throw new SecaggFault("RosterDiffers", "the coordinator does not list this participant");
  checkEnough(terms, u2.length, "shared their keys");
  const senders = shares.map(({ index }) => index);
  const others = u2.filter((index) => index !== own);
  if (!isSameList(senders, others)) {
    throw new SecaggFault("RosterDiffers", "the coordinator's shares are not those of the members that it lists");
  }
}

function heldShares(deps: ParticipantDeps, state: Shared, shares: readonly EncryptedShares[]): HeldShare[] {
  const { own, terms } = deps;
  const secretKey = agreementKey(state.secrets.cSk);
  const received = shares.map(({ index, ciphertext }): HeldShare => {
    const channel = {
      secretKey,
      publicKey: sender(state, index).cPk,
      t1: state.t1,
      from: index,
      to: own,
    };
    const dealt = decryptShares(channel, ciphertext);
    if (!dealt) {
      const name = nameOf(terms, index);
      throw new SecaggFault("BadShare", `the shares from ${name} cannot be decrypted`, [name]);
    }
    return { index, ...dealt };
  });
  return [...received, { index: own, selfShare: state.secrets.ownSelfShare }].sort((a, b) => a.index - b.index);
}

/** σ = +1 towards a higher idx, −1 towards a lower one, so that the pair's masks cancel. */
function maskKeys({ own }: ParticipantDeps, state: Shared, u2: readonly number[]): MaskKey[] {
  const secretKey = agreementKey(state.secrets.sSk);
  return u2.map((index) =>
    index === own
      ? { key: selfMaskKey(state.secrets.b, state.t1, own), sign: 1 }
      : {
          key: pairMaskKey(secretKey, sender(state, index).sPk, state.t1, [own, index]),
          sign: own < index ? 1 : -1,
        },
  );
}

const sender = (state: Shared, index: number) => state.advertised.find((entry) => entry.index === index)!;
