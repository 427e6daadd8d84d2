/**
 * M4 at the coordinator: collects the shares by which masks are removed (secure-aggregation.md §3).
 * Holds: of every member of U2 one kind of share is taken, of b for U3 and of s_sk for the others, so that a careless
 * coordinator cannot come to hold both either.
 * Does not: tell a true share from a wrong one (recover.ts).
 */
import { SecaggFault } from "../faults.ts";
import type { RevealedShare, SessionTerms, Unmask } from "../messages.ts";
import { SHARE_BYTES } from "../shares.ts";
import { type Complete, nameOf, type Unmasking, withAnswer } from "./states.ts";

/** @throws SecaggFault "MessageMalformed": not exactly the asked share of 32 bytes for each member of U2, ascending */
export function takeUnmask(terms: SessionTerms, state: Unmasking, index: number, message: Unmask): Unmasking {
  const isAlive = aliveIn(state);
  const { u2 } = state;
  const isAsked = ({ index: of, share }: RevealedShare, at: number) =>
    of === u2[at] && share?.$case === (isAlive(of) ? "selfShare" : "pairShare") && share.value.length === SHARE_BYTES;
  if (message.shares.length !== u2.length || !message.shares.every(isAsked)) {
    const who = nameOf(terms, index);
    throw new SecaggFault("MessageMalformed", `${who} did not reveal exactly the shares that were asked for`, [who]);
  }
  return { ...state, answers: withAnswer(state.answers, index, message) };
}

/** @param members  those whose shares are used, ascending, at least t */
export const closeUnmasking = (state: Unmasking, members: readonly number[]): Complete => ({
  ...state,
  step: "complete",
  answers: new Map(members.map((index) => [index, state.answers.get(index)!])),
});

/** Whether a member's vector is in the sum. */
export function aliveIn({ u3 }: Pick<Unmasking, "u3">): (index: number) => boolean {
  const alive = new Set(u3.map(({ index }) => index));
  return (index) => alive.has(index);
}
