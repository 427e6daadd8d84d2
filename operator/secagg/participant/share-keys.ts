/**
 * List1 → M1: everybody's keys against this participant's own pins, then its secrets, shared (secure-aggregation.md §3).
 * Exits of Advertised: Shared, or a fault for which the session aborts.
 */
import { hex, sameBytes } from "../bytes.ts";
import { SecaggFault } from "../faults.ts";
import { agreementKey, isUsable, KEY_BYTES, signedBytes, verifySigned } from "../key-agreement.ts";
import type { Advertisement, EncryptedShares, KeyList, SessionTerms } from "../messages.ts";
import { encryptShares } from "../share-encryption.ts";
import { split } from "../shares.ts";
import { advertiseBody, t1 } from "../transcript.ts";
import type { ParticipantDeps } from "./deps.ts";
import { checkEnough, checkMembers, identityOf, nameOf, strangeness } from "./lists.ts";
import type { Advertised, Shared } from "./state.ts";

/** @throws SecaggFault "RosterDiffers", "OwnKeysDiffer", "TooFewMembers", "KeysInvalid" */
export function shareKeys(deps: ParticipantDeps, state: Advertised, list: KeyList): Shared {
  const { advertised } = list;
  checkKeys(deps.terms, state, advertised);
  const transcript1 = t1(deps.terms.c0, advertised);
  const { cSk, sSk, b } = state.secrets;
  const xs = advertised.map(({ index }) => index);
  const selfShares = split(b, deps.terms.threshold, xs, deps.random);
  const pairShares = split(sSk, deps.terms.threshold, xs, deps.random);
  const secretKey = agreementKey(cSk);
  const ownAt = xs.indexOf(deps.own);
  const shares = advertised.flatMap(({ index, cPk }, at): EncryptedShares[] => {
    if (index === deps.own) return [];
    const channel = { secretKey, publicKey: cPk, t1: transcript1, from: deps.own, to: index };
    const dealt = { selfShare: selfShares[at]!.share, pairShare: pairShares[at]!.share };
    return [{ index, ciphertext: encryptShares(channel, dealt) }];
  });
  return {
    kind: "Shared",
    advertised,
    t1: transcript1,
    message: { ack: deps.sign(signedBytes("t1", transcript1)), shares },
    secrets: { cSk, sSk, b, ownSelfShare: selfShares[ownAt]!.share },
  };
}

/** Whether the list is the one that led into a state after Advertised. */
export function isSameKeys(terms: SessionTerms, transcript1: Uint8Array, { advertised }: KeyList): boolean {
  return (
    strangeness(
      terms,
      advertised.map(({ index }) => index),
    ) === undefined && sameBytes(t1(terms.c0, advertised), transcript1)
  );
}

function checkKeys(terms: SessionTerms, own: Advertised, advertised: readonly Advertisement[]): void {
  checkMembers(
    terms,
    advertised.map(({ index }) => index),
    "RosterDiffers",
  );
  const mine = advertised.find(({ index }) => index === own.message.index);
  if (!mine || !isSameAdvertisement(mine, own.message)) {
    throw new SecaggFault("OwnKeysDiffer", "the coordinator did not list this participant's own keys as it sent them");
  }
  checkEnough(terms, advertised.length, "advertised keys");
  checkDistinct(terms, advertised);
  for (const entry of advertised) checkEntry(terms, entry);
}

/** A value of another member, passed on as one's own, would let its owner open masks that are not its. */
function checkDistinct(terms: SessionTerms, advertised: readonly Advertisement[]): void {
  const seen = new Set<string>();
  for (const { index, cPk, sPk, cmB } of advertised) {
    for (const value of [cPk, sPk, cmB].map(hex)) {
      if (seen.has(value)) {
        throw new SecaggFault("KeysInvalid", `the keys of ${nameOf(terms, index)} have been listed already`);
      }
      seen.add(value);
    }
  }
}

function checkEntry(terms: SessionTerms, entry: Advertisement): void {
  const name = nameOf(terms, entry.index);
  const isWhole = [entry.cPk, entry.sPk, entry.cmB].every(({ length }) => length === KEY_BYTES);
  const body = advertiseBody(terms.c0, entry);
  // Not accused: it is the coordinator who shows this, and the member may never have sent it.
  if (!isWhole || !verifySigned(identityOf(terms, entry.index), "advertise", body, entry.signature)) {
    throw new SecaggFault("KeysInvalid", `the keys of ${name} are not signed for this round by the key pinned for it`);
  }
  if (!isUsable(entry.cPk) || !isUsable(entry.sPk)) {
    throw new SecaggFault("KeysInvalid", `a key of ${name} is a point of a small subgroup`, [name]);
  }
}

const isSameAdvertisement = (a: Advertisement, b: Advertisement): boolean =>
  sameBytes(a.cPk, b.cPk) && sameBytes(a.sPk, b.sPk) && sameBytes(a.cmB, b.cmB) && sameBytes(a.signature, b.signature);
