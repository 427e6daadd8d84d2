/**
 * M3 at the coordinator: collects signatures of T2, by which the members assure each other that all were told the same
 * (secure-aggregation.md §3).
 */
import { SecaggFault } from "../faults.ts";
import { verifySigned } from "../key-agreement.ts";
import type { Consistency, SessionTerms, UnmaskRequest } from "../messages.ts";
import { answersOf, type Comparing, nameOf, type Unmasking, withAnswer } from "./states.ts";

/** @throws SecaggFault "SignatureInvalid" */
export function takeConsistency(
  terms: SessionTerms,
  state: Comparing,
  index: number,
  { signature }: Consistency,
): Comparing {
  const who = nameOf(terms, index);
  if (!verifySigned(terms.members[index - 1]!.identity, "t2", state.t2, signature)) {
    throw new SecaggFault("SignatureInvalid", `${who} has not signed the list of contributions`, [who]);
  }
  return { ...state, answers: withAnswer(state.answers, index, { index, signature }) };
}

/** @param members  those who signed, ascending, at least t */
export function closeConsistency(state: Comparing, members: readonly number[]): Unmasking {
  const { u1, t1, u2, shared, u3, t2 } = state;
  const signatures = answersOf(state.answers, members);
  return { step: "unmask", u1, t1, u2, shared, u3, t2, signatures, answers: new Map() };
}

/** The question of M4 is the same for everybody who signed. */
export const unmaskRequest = (state: Unmasking): UnmaskRequest => ({ signatures: [...state.signatures] });
