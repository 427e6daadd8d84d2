/**
 * A lying participant's cohort, for tests: the honest answers to each step, the same without the liar's, and that its refusal leaves the
 * others' sum right.
 */
import { expect } from "vitest";
import { type CohortState, type CohortStep, closeStep, receive } from "../coordinator/cohort.ts";
import { type SecaggCode, SecaggFault } from "../faults.ts";
import type { ParticipantMessage } from "../messages.ts";
import { testCohort } from "./cohort.ts";
import { begin, close, everybodyAnswers, plainSum, runTo, unmaskedSum, type World } from "./conduct.ts";

// n = 8, t = 6: two may be lost.
export const cohort = testCohort(8);
export const { terms } = cohort;
export const LIAR = 3;
export const SECOND_LIAR = 7;
export const STRANGER = 9;

export const asking = (step: CohortStep): World => (step === "advertise" ? begin() : runTo(cohort, step));
/** Each step with everybody's honest answer in, and not closed. */
export const full = {
  advertise: everybodyAnswers(cohort, begin()),
  share: everybodyAnswers(cohort, runTo(cohort, "share")),
  mask: everybodyAnswers(cohort, runTo(cohort, "mask")),
  consistency: everybodyAnswers(cohort, runTo(cohort, "consistency")),
  unmask: everybodyAnswers(cohort, runTo(cohort, "unmask")),
};
/** A copy of a member's honest answer, to be spoiled. */
export const answerTo = <A>(step: keyof typeof full, index = LIAR): A =>
  structuredClone(full[step].state.answers.get(index)) as A;
/** The same members in another session, where all signatures are good and none of them counts here. */
export const otherSession = runTo(testCohort(8, { seed: "another" }), "consistency").state as Extract<
  CohortState,
  { step: "consistency" }
>;

/** A step with the answers of everybody but the liar in. */
export function withOthers(step: keyof typeof full): CohortState {
  const { state } = full[step];
  const answers = new Map<number, unknown>(state.answers);
  answers.delete(LIAR);
  return { ...state, answers } as CohortState;
}

/** What the refusal says. */
export function fault(doing: () => unknown): SecaggFault {
  try {
    doing();
  } catch (error) {
    if (error instanceof SecaggFault) return error;
    throw error;
  }
  throw new Error("nothing was refused");
}

export function expectFault(doing: () => unknown, code: SecaggCode): void {
  expect(fault(doing)).toMatchObject({ code });
}

export function expectRefused(state: CohortState, index: number, message: ParticipantMessage, code: SecaggCode): void {
  expect(fault(() => receive(terms, state, index, message))).toMatchObject({
    code,
    accused: ["clinic-003"],
    message: expect.stringContaining("clinic-003"),
  });
}

/** The step ends with the state that the refused message has left, and the session with it. */
export function expectRightSumWithout(step: keyof typeof full, state: CohortState): void {
  let world: World = { ...full[step], state: closeStep(terms, state) };
  while (world.state.step !== "complete") world = close(cohort, everybodyAnswers(cohort, world));
  expect(unmaskedSum(cohort, world)).toEqual(plainSum(world));
}
