/**
 * U2 and U3 → M3: one signature on one T2 (secure-aggregation.md §3).
 * Exits of Masked: Signed, or a fault for which the session aborts.
 * Why U2 must be equal and not only contain U3: a victim that masked for {itself, D, colluders} and is then shown everyone but D as survivors
 * would see all its pair masks opened.
 */
import { sameBytes } from "../bytes.ts";
import { SecaggFault } from "../faults.ts";
import { signedBytes, verifySigned } from "../key-agreement.ts";
import type { ConsistencyRequest, SessionTerms } from "../messages.ts";
import { inputBody, t2 } from "../transcript.ts";
import type { ParticipantDeps } from "./deps.ts";
import { checkEnough, checkMembers, identityOf, isSameList, isSubset, nameOf, strangeness } from "./lists.ts";
import type { Masked, Signed } from "./state.ts";

/** @throws SecaggFault "SurvivorsInvalid", "TooFewMembers", "InputInvalid" */
export function signSurvivors(deps: ParticipantDeps, state: Masked, request: ConsistencyRequest): Signed {
  const u3 = request.inputs.map(({ index }) => index);
  checkSurvivors(deps, state, request.u2, u3);
  checkInputs(deps, state, request);
  const transcript2 = t2(state.t1, state.u2, request.inputs);
  return {
    kind: "Signed",
    t1: state.t1,
    sharesRequest: state.sharesRequest,
    u3,
    t2: transcript2,
    message: { signature: deps.sign(signedBytes("t2", transcript2)) },
    secrets: state.secrets,
  };
}

/** Whether the request is the one that led into a state after Masked. */
export function isSameSurvivors(
  terms: SessionTerms,
  { t1, t2: transcript2 }: { t1: Uint8Array; t2: Uint8Array },
  request: ConsistencyRequest,
): boolean {
  const u3 = request.inputs.map(({ index }) => index);
  if (strangeness(terms, request.u2) ?? strangeness(terms, u3)) return false;
  return sameBytes(t2(t1, request.u2, request.inputs), transcript2);
}

function checkSurvivors(
  { terms, own }: ParticipantDeps,
  state: Masked,
  u2: readonly number[],
  u3: readonly number[],
): void {
  if (!isSameList(u2, state.u2)) {
    throw new SecaggFault("SurvivorsInvalid", "the members shown are not those that this participant masked for");
  }
  checkMembers(terms, u3, "SurvivorsInvalid");
  if (!isSubset(u3, u2))
    throw new SecaggFault("SurvivorsInvalid", "the coordinator lists the input of a member that shared no keys");
  if (!u3.includes(own))
    throw new SecaggFault("SurvivorsInvalid", "the coordinator leaves out this participant's input");
  checkEnough(terms, u3.length, "sent their input");
}

function checkInputs({ terms, own }: ParticipantDeps, state: Masked, { inputs }: ConsistencyRequest): void {
  const mine = inputs.find(({ index }) => index === own)!;
  if (!sameBytes(mine.root, state.input.root)) {
    throw new SecaggFault("InputInvalid", "the coordinator shows another input than this participant sent");
  }
  for (const { index, root, signature } of inputs) {
    const body = inputBody(state.t1, root, terms.byteLength);
    if (root.length === state.input.root.length && verifySigned(identityOf(terms, index), "input", body, signature))
      continue;
    throw new SecaggFault("InputInvalid", `${nameOf(terms, index)} has not signed the input that is shown for it`);
  }
}
