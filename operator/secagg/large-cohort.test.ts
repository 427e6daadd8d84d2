/** One session of 32 members, as large as a test can afford: the most that may be lost, liars among the rest, and one loss too many. */
import { expect, test } from "vitest";
import type { CohortState } from "./coordinator/cohort.ts";
import { recover } from "./coordinator/recover.ts";
import type { Unmask } from "./messages.ts";
import { testCohort } from "./testing/cohort.ts";
import { close, everybodyAnswers, plainSum, runTo, unmaskedSum, type World } from "./testing/conduct.ts";
import { wrongUnmask } from "./testing/lies.ts";

// t = 22: ten may be lost.
const cohort = testCohort(32);
const LOST = { advertise: [3], share: [31], mask: [1, 8, 32] };
const asked = runTo(cohort, "unmask", LOST);
const revealed = everybodyAnswers(cohort, asked);
const revealing = [...revealed.state.answers.keys()];

test("ten lost, in all steps: the sum of U3", () => {
  const world = close(cohort, revealed, revealing.slice(5));
  expect(world.state.answers.size).toBe(22);
  expect(unmaskedSum(cohort, world)).toEqual(plainSum(world));
});

test("an eleventh: no sum", () => {
  expect(() => close(cohort, revealed, revealing.slice(6))).toThrow("21 of 32 members released their shares in time");
});

test("two liars among 27, each about all others: named, and the sum is right", () => {
  const liars = [revealing[4]!, revealing[20]!];
  const world = withLiars(liars);
  expect(recover(cohort.terms, world.state).liars).toEqual(liars);
  expect(unmaskedSum(cohort, world)).toEqual(plainSum(world));
});

function withLiars(liars: readonly number[]): World {
  const answers = new Map(revealed.state.answers as ReadonlyMap<number, Unmask>);
  for (const index of liars) answers.set(index, wrongUnmask(answers.get(index)!));
  return close(cohort, { ...revealed, state: { ...revealed.state, answers } as CohortState });
}
