/**
 * M2 at the coordinator: collects what members signed about their masked vectors until U3 is closed (secure-aggregation.md §3).
 * Holds: U3 are those whose upload is complete, has the planned length, and verifies.
 * Does not: see a vector. Who calls has every byte of it durable and its Merkle root computed from those bytes.
 */
import { SecaggFault } from "../faults.ts";
import { KEY_BYTES, verifySigned } from "../key-agreement.ts";
import type { ConsistencyRequest, SessionTerms, SignedInput } from "../messages.ts";
import { inputBody, t2 } from "../transcript.ts";
import { answersOf, type Comparing, type Masking, nameOf, withAnswer } from "./states.ts";

/** A masked vector as its manifest tells of it. */
export interface MaskedInput extends SignedInput {
  byteLength: number;
}

/** @throws SecaggFault "MessageMalformed" (another length than the plan's) | "SignatureInvalid" */
export function takeInput(terms: SessionTerms, state: Masking, input: MaskedInput): Masking {
  const { index, root, byteLength, signature } = input;
  const who = nameOf(terms, index);
  if (byteLength !== terms.byteLength || root.length !== KEY_BYTES) {
    const expected = `the plan's vector has ${terms.byteLength}`;
    throw new SecaggFault("MessageMalformed", `${who}'s masked vector has ${byteLength} bytes; ${expected}`, [who]);
  }
  if (!verifySigned(terms.members[index - 1]!.identity, "input", inputBody(state.t1, root, byteLength), signature)) {
    throw new SecaggFault("SignatureInvalid", `${who} has not signed its masked vector for this session`, [who]);
  }
  return { ...state, answers: withAnswer(state.answers, index, { index, root, signature }) };
}

/** @param members  U3, ascending, at least t */
export function closeMasking(state: Masking, members: readonly number[]): Comparing {
  const { u1, t1, u2, shared } = state;
  const u3 = answersOf(state.answers, members);
  return { step: "consistency", u1, t1, u2, shared, u3, t2: t2(t1, u2, u3), answers: new Map() };
}

/** The question of M3 is the same for everybody. */
export const consistencyRequest = (state: Comparing): ConsistencyRequest => ({
  u2: [...state.u2],
  inputs: [...state.u3],
});
