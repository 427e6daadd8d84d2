/**
 * The others' signatures on T2 → M4: of every member one share, of b for a survivor and of s_sk for the others, never both (secure-aggregation.md §3).
 * Exits of Signed: Released, or a fault for which the session aborts. Released is final.
 */
import { SecaggFault } from "../faults.ts";
import { verifySigned } from "../key-agreement.ts";
import type { RevealedShare, UnmaskRequest } from "../messages.ts";
import type { ParticipantDeps } from "./deps.ts";
import { checkMembers, identityOf, isSubset, nameOf } from "./lists.ts";
import type { HeldShare, Released, Signed } from "./state.ts";

/** @throws SecaggFault "SurvivorsInvalid", "TooFewSignatures", "TranscriptDiffers" */
export function releaseShares(deps: ParticipantDeps, state: Signed, request: UnmaskRequest): Released {
  checkAgreement(deps, state, request);
  const survivors = new Set(state.u3);
  return {
    kind: "Released",
    t1: state.t1,
    sharesRequest: state.sharesRequest,
    u3: state.u3,
    t2: state.t2,
    message: { shares: state.secrets.shares.map((held) => revealed(held, survivors.has(held.index))) },
  };
}

/** Whether the request names the sum that this participant has opened. */
export function isAgreement(deps: ParticipantDeps, state: Pick<Signed, "u3" | "t2">, request: UnmaskRequest): boolean {
  try {
    checkAgreement(deps, state, request);
    return true;
  } catch (error) {
    if (error instanceof SecaggFault) return false;
    throw error;
  }
}

/** At least t survivors have signed this participant's own T2, and nobody another: a request names its sum by that alone. */
function checkAgreement(
  { terms }: ParticipantDeps,
  { u3, t2 }: Pick<Signed, "u3" | "t2">,
  { signatures }: UnmaskRequest,
): void {
  const signers = signatures.map(({ index }) => index);
  checkMembers(terms, signers, "SurvivorsInvalid");
  if (!isSubset(signers, u3)) {
    throw new SecaggFault("SurvivorsInvalid", "the coordinator shows a signature of a member that sent no input");
  }
  if (signers.length < terms.threshold) {
    const have = `${signers.length} members signed the survivors`;
    throw new SecaggFault("TooFewSignatures", `${have}, and ${terms.threshold} are needed`);
  }
  for (const { index, signature } of signatures) {
    if (verifySigned(identityOf(terms, index), "t2", t2, signature)) continue;
    throw new SecaggFault(
      "TranscriptDiffers",
      `${nameOf(terms, index)} has not signed the survivors that were shown here`,
    );
  }
}

function revealed({ index, selfShare, pairShare }: HeldShare, isSurvivor: boolean): RevealedShare {
  if (isSurvivor) return { index, share: { $case: "selfShare", value: selfShare } };
  // The own one alone has no pair share, and its owner is among the survivors: consistency.ts has checked that.
  if (!pairShare) throw new Error(`no share of the pair key of member ${index} is held`);
  return { index, share: { $case: "pairShare", value: pairShare } };
}
