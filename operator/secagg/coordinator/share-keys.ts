/**
 * M1 at the coordinator: collects acknowledgements of T1 and encrypted shares until U2 is closed (secure-aggregation.md §3).
 * Holds: U2 are those whose M1 is complete and whose ack is valid. What is inside a ciphertext only its receiver can tell.
 */
import { SecaggFault } from "../faults.ts";
import { verifySigned } from "../key-agreement.ts";
import type { SessionTerms, ShareKeys, ShareList } from "../messages.ts";
import { CIPHERTEXT_BYTES } from "../share-encryption.ts";
import { type Masking, nameOf, type Sharing, withAnswer } from "./states.ts";

/** @throws SecaggFault "MessageMalformed" (not one ciphertext of 80 bytes for each other member of U1, ascending) | "SignatureInvalid" */
export function takeShares(terms: SessionTerms, state: Sharing, index: number, message: ShareKeys): Sharing {
  const who = nameOf(terms, index);
  if (!isForEach(othersOf(state, index), message)) {
    throw new SecaggFault("MessageMalformed", `${who} did not send one sealed share to each of the others`, [who]);
  }
  if (!verifySigned(terms.members[index - 1]!.identity, "t1", state.t1, message.ack)) {
    throw new SecaggFault("SignatureInvalid", `${who} has not signed the key list of this session`, [who]);
  }
  return { ...state, answers: withAnswer(state.answers, index, message) };
}

/** @param members  U2, ascending, at least t */
export function closeSharing(state: Sharing, members: readonly number[]): Masking {
  const { u1, t1, answers } = state;
  const shared = new Map(members.map((index) => [index, answers.get(index)!]));
  return { step: "mask", u1, t1, u2: members, shared, answers: new Map() };
}

/** List2, for one member of U2. */
export function shareList(state: Masking, receiver: number): ShareList {
  const place = state.u1.findIndex(({ index }) => index === receiver);
  const senders = state.u2.filter((index) => index !== receiver);
  return {
    acks: state.u2.map((index) => ({ index, signature: state.shared.get(index)!.ack })),
    // A sender's list is U1 without the sender.
    shares: senders.map((index) => {
      const { ciphertext } = state.shared.get(index)!.shares[index < receiver ? place - 1 : place]!;
      return { index, ciphertext };
    }),
  };
}

const othersOf = (state: Sharing, own: number): number[] =>
  state.u1.map(({ index }) => index).filter((index) => index !== own);

const isForEach = (receivers: readonly number[], { shares }: ShareKeys): boolean =>
  shares.length === receivers.length &&
  shares.every(({ index, ciphertext }, at) => index === receivers[at] && ciphertext.length === CIPHERTEXT_BYTES);
