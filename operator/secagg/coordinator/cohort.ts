/**
 * The coordinator's side of one cohort's session (secure-aggregation.md §3): messages in, the next state out.
 * Holds: a message costs one signature check, however many came before; a message that is refused changes nothing; the same
 * answer again changes nothing either. The same messages and the same closed sets give the same state, so that a restart rebuilds it.
 * Does not: wait, send or store. The operator decides when a step ends, and keeps messages and sets in its journal.
 */
import { SecaggFault } from "../faults.ts";
import type { CoordinatorMessage, ParticipantMessage, SessionTerms } from "../messages.ts";
import { closeAdvertising, keyList, takeAdvertisement } from "./advertise.ts";
import { closeConsistency, takeConsistency, unmaskRequest } from "./consistency.ts";
import { closeMasking, consistencyRequest, type MaskedInput, takeInput } from "./masked-input.ts";
import { type Answer, heldAnswer, sameAnswer } from "./repeats.ts";
import { closeSharing, shareList, takeShares } from "./share-keys.ts";
import { type CohortState, type CohortStep, nameOf } from "./states.ts";
import { closeUnmasking, takeUnmask } from "./unmask.ts";

export type { MaskedInput } from "./masked-input.ts";
export type { CohortState, CohortStep } from "./states.ts";

export const openCohort = (): CohortState => ({ step: "advertise", answers: new Map() });

/** The members that the current step asks, ascending: who answered the step before. Nobody once the cohort is complete. */
export function asked(terms: SessionTerms, state: CohortState): number[] {
  switch (state.step) {
    case "advertise":
      return terms.members.map((_, at) => at + 1);
    case "share":
      return state.u1.map(({ index }) => index);
    case "mask":
      return [...state.u2];
    case "consistency":
      return state.u3.map(({ index }) => index);
    case "unmask":
      return state.signatures.map(({ index }) => index);
    case "complete":
      return [];
  }
}

/** The members whose answer to the current step has been taken, ascending; of a complete cohort, whose shares there are. */
export const answered = (state: CohortState): number[] => [...state.answers.keys()].sort((a, b) => a - b);

/**
 * Takes M0, M1, M3 or M4 of one member.
 * @param index  of the member that sent it, by the transport's authentication; 1…n
 * @returns the next state; the very same one when this answer has been taken before, in this step or an earlier one
 * @throws SecaggFault "MessageMalformed" | "SignatureInvalid" | "NotExpected" (another step, or a member that this step does not ask)
 *                     | "AnswerDiffers" (from the one that was taken)
 */
export function receive(
  terms: SessionTerms,
  state: CohortState,
  index: number,
  message: ParticipantMessage,
): CohortState {
  if (isRepeat(terms, state, index, message)) return state;
  switch (message.$case) {
    case "advertise":
      if (state.step === "advertise") return takeAdvertisement(terms, state, index, message.value);
      break;
    case "share":
      if (state.step === "share") return takeShares(terms, state, index, message.value);
      break;
    case "consistency":
      if (state.step === "consistency") return takeConsistency(terms, state, index, message.value);
      break;
    case "unmask":
      if (state.step === "unmask") return takeUnmask(terms, state, index, message.value);
      break;
  }
  throw notExpected(terms, state, index);
}

/**
 * Takes the manifest of a masked vector all of whose bytes are durable and give `root`.
 * @throws as receive
 */
export function receiveInput(terms: SessionTerms, state: CohortState, input: MaskedInput): CohortState {
  if (isRepeat(terms, state, input.index, { $case: "input", value: input })) return state;
  if (state.step !== "mask") throw notExpected(terms, state, input.index);
  return takeInput(terms, state, input);
}

/**
 * Ends the current step with the answers taken so far; who has not answered is out.
 * @param only  the recorded set when a state is rebuilt, or a smaller set than answered; each must have answered
 * @throws SecaggFault "CohortTooSmall" when fewer than t are left: the cohort cannot go on
 */
export function closeStep(terms: SessionTerms, state: CohortState, only?: readonly number[]): CohortState {
  const members = only === undefined ? answered(state) : [...only].sort((a, b) => a - b);
  const missing = members.find((index) => !state.answers.has(index));
  if (missing !== undefined) throw new RangeError(`member ${missing} has not answered in step ${state.step}`);
  if (members.length < terms.threshold) {
    const left = `${members.length} of ${terms.members.length} members ${deeds[state.step]}`;
    throw new SecaggFault("CohortTooSmall", `${left}; the cohort needs ${terms.threshold}`);
  }
  switch (state.step) {
    case "advertise":
      return closeAdvertising(terms, state, members);
    case "share":
      return closeSharing(state, members);
    case "mask":
      return closeMasking(state, members);
    case "consistency":
      return closeConsistency(state, members);
    case "unmask":
      return closeUnmasking(state, members);
    case "complete":
      throw new RangeError("a complete cohort has no step to close");
  }
}

/** What the current step asks of a member; undefined: nothing, or it has answered. M0 is asked for by the plan itself. */
export function requestFor(terms: SessionTerms, state: CohortState, index: number): CoordinatorMessage | undefined {
  if (state.answers.has(index) || !asked(terms, state).includes(index)) return undefined;
  switch (state.step) {
    case "advertise":
    case "complete":
      return undefined;
    case "share":
      return { $case: "keys", value: keyList(state) };
    case "mask":
      return { $case: "shares", value: shareList(state, index) };
    case "consistency":
      return { $case: "consistency", value: consistencyRequest(state) };
    case "unmask":
      return { $case: "unmask", value: unmaskRequest(state) };
  }
}

const deeds: { [S in CohortStep]: string } = {
  advertise: "sent their keys in time",
  share: "shared their keys in time",
  mask: "delivered a masked vector in time",
  consistency: "confirmed the list of contributions in time",
  unmask: "released their shares in time",
  complete: "released their shares in time",
};

/** @throws SecaggFault "NotExpected" unless the step asks this member, "AnswerDiffers" when another answer is held */
function isRepeat(terms: SessionTerms, state: CohortState, index: number, answer: Answer): boolean {
  const held = heldAnswer(state, index, answer.$case);
  if (held === undefined) {
    if (!asked(terms, state).includes(index)) throw notExpected(terms, state, index);
    return false;
  }
  if (sameAnswer(held, answer)) return true;
  const who = nameOf(terms, index);
  throw new SecaggFault("AnswerDiffers", `${who} has already answered in step ${answer.$case}, and differently`, [who]);
}

function notExpected(terms: SessionTerms, state: CohortState, index: number): SecaggFault {
  const who = nameOf(terms, index);
  return new SecaggFault("NotExpected", `nothing of this kind is expected of ${who} in step ${state.step}`, [who]);
}
