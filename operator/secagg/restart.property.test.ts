/**
 * An operator that stops at any moment and comes back: from the journalled messages and the recorded sets it has the very state that it
 * lost, whatever had arrived in which order, and whoever had been lost.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { type CohortState, closeStep, openCohort, receive, receiveInput } from "./coordinator/cohort.ts";
import type { Answers } from "./coordinator/states.ts";
import type { ParticipantMessage, SignedInput } from "./messages.ts";
import { testCohort } from "./testing/cohort.ts";
import { begin, close, everybodyAnswers } from "./testing/conduct.ts";

// n = 5, t = 4.
const cohort = testCohort(5);
const STEPS = 5;

/** What the journal has of one step: messages by participant, and the closed set in the record. */
interface StepRecord {
  answers: Answers<unknown>;
  closed?: readonly number[];
}

test("the state is rebuilt from what is durable", () => {
  const lost = fc.option(fc.integer({ min: 1, max: 5 }), { nil: undefined });
  const when = fc.integer({ min: 0, max: STEPS - 1 });
  const order = fc.array(fc.nat(100), { minLength: 5, maxLength: 5 });
  const missing = fc.subarray([1, 2, 3, 4, 5]);
  const rebuilt = fc.property(lost, when, order, when, missing, (gone, goneIn, shuffle, stopIn, unanswered) => {
    const records: StepRecord[] = [];
    let world = begin();
    for (let step = 0; step <= stopIn; step++) {
      const before = world.state;
      world = everybodyAnswers(cohort, world);
      const all = world.state.answers as Answers<unknown>;
      if (step === stopIn) {
        // In the middle of a step, in any order.
        const arrived = [...all].filter(([index]) => !unanswered.includes(index));
        arrived.sort(([a], [b]) => shuffle[a - 1]! - shuffle[b - 1]!);
        const state = arrived.reduce((now, [index, answer]) => take(now, index, answer), before);
        records.push({ answers: new Map(arrived) });
        expect(restored(records)).toEqual(state);
        return;
      }
      // The lost member's answer may be in the journal all the same: it came when the set was closed without it.
      const closed = [...all.keys()].filter((index) => !(step === goneIn && index === gone));
      records.push({ answers: all, closed });
      world = close(cohort, world, closed);
      expect(restored(records)).toEqual(world.state);
    }
  });
  fc.assert(rebuilt, { numRuns: 25 });
});

test("an answer that came before its step was closed without it makes no difference to what follows", () => {
  const all = everybodyAnswers(cohort, begin()).state;
  const others = [...(all.answers as Answers<unknown>)].filter(([index]) => index !== 4);
  const without = others.reduce((now, [index, answer]) => take(now, index, answer), openCohort());
  expect(closeStep(cohort.terms, all, [1, 2, 3, 5])).toEqual(closeStep(cohort.terms, without));
});

/** By participant's name, as a journal lists it. */
const restored = (records: readonly StepRecord[]): CohortState =>
  records.reduce<CohortState>((state, { answers, closed }) => {
    const listed = [...answers].sort(([a], [b]) => a - b);
    const filled = listed.reduce((now, [index, answer]) => take(now, index, answer), state);
    return closed ? closeStep(cohort.terms, filled, closed) : filled;
  }, openCohort());

function take(state: CohortState, index: number, answer: unknown): CohortState {
  const { terms } = cohort;
  if (state.step === "mask")
    return receiveInput(terms, state, { ...(answer as SignedInput), byteLength: terms.byteLength });
  const value = state.step === "consistency" ? { signature: (answer as { signature: Uint8Array }).signature } : answer;
  return receive(terms, state, index, { $case: state.step, value } as ParticipantMessage);
}
