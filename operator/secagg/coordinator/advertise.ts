/**
 * M0 at the coordinator: collects the members' keys until U1 is closed (secure-aggregation.md §3).
 * Holds: U1's keys are such that every honest member takes List1: signed, usable, and no two alike. One member's bad keys would
 * otherwise make all the others abort, and nobody could say whose fault it was.
 */
import { hex } from "../bytes.ts";
import { SecaggFault } from "../faults.ts";
import { isUsable, KEY_BYTES, verifySigned } from "../key-agreement.ts";
import type { Advertisement, KeyList, SessionTerms } from "../messages.ts";
import { advertiseBody, t1 } from "../transcript.ts";
import { type Advertising, answersOf, nameOf, type Sharing, withAnswer } from "./states.ts";

/**
 * @throws SecaggFault "MessageMalformed" (another's index, wrong lengths, a key of a small subgroup, something that another member
 *                     has already advertised) | "SignatureInvalid"
 */
export function takeAdvertisement(
  terms: SessionTerms,
  state: Advertising,
  index: number,
  message: Advertisement,
): Advertising {
  const { cPk, sPk, cmB } = message;
  const who = nameOf(terms, index);
  const refuse = (how: string) => new SecaggFault("MessageMalformed", `${who} ${how}`, [who]);
  if (message.index !== index) throw refuse(`advertised keys as member ${message.index}, but is member ${index}`);
  if ([cPk, sPk, cmB].some((bytes) => bytes.length !== KEY_BYTES)) throw refuse("advertised keys of a wrong length");
  if (
    !verifySigned(terms.members[index - 1]!.identity, "advertise", advertiseBody(terms.c0, message), message.signature)
  ) {
    throw new SecaggFault("SignatureInvalid", `${who}'s keys are not signed by its identity for this session`, [who]);
  }
  if (!isUsable(cPk) || !isUsable(sPk)) throw refuse("advertised a key with which no key can be agreed");
  if (!areFresh(state, [cPk, sPk, cmB])) throw refuse("advertised the same bytes twice, or those of another member");
  return { ...state, answers: withAnswer(state.answers, index, message) };
}

/** @param members  U1, ascending, at least t */
export function closeAdvertising(terms: SessionTerms, state: Advertising, members: readonly number[]): Sharing {
  const u1 = answersOf(state.answers, members);
  return { step: "share", u1, t1: t1(terms.c0, u1), answers: new Map() };
}

/** List1 is the same for everybody. */
export const keyList = (state: Sharing): KeyList => ({ advertised: [...state.u1] });

/** Whether none of the three equals another of them or anything advertised so far. All of it is public. */
function areFresh(state: Advertising, values: readonly Uint8Array[]): boolean {
  const advertised = [...state.answers.values()].flatMap(({ cPk, sPk, cmB }) => [cPk, sPk, cmB]);
  return new Set([...advertised, ...values].map(hex)).size === advertised.length + values.length;
}
