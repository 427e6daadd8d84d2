/**
 * Every way in which members of a cohort of 4 to 8 can be lost, and what becomes of the sum (secure-aggregation.md §3, §4).
 *
 * Exhaustive over WHICH member is lost in WHICH step: each of n members is lost before its M0, M1, M2, M3 or M4, or never: 6^n cases, all of
 * them, without symmetry. They are walked as a tree: in each step everybody who is asked answers, once, and then every subset of the answers is
 * taken as the one that arrived in time. Where fewer than t are left the session is over, and what the rest would have done later makes no
 * difference: that leaf stands for all of those cases. Each test adds up how many cases its leaves stand for; it must be 6^n.
 *
 * Everything is the real thing. Only that the check of a signature is remembered, for the same ones come by thousands of times: they would
 * take twice the time, and nothing would be learnt from it.
 */
import { expect, test, vi } from "vitest";
import { asked } from "./coordinator/cohort.ts";
import { SecaggFault } from "./faults.ts";
import { type TestCohort, testCohort } from "./testing/cohort.ts";
import { begin, close, everybodyAnswers, plainSum, unmaskedSum, type World } from "./testing/conduct.ts";

vi.mock("./key-agreement.ts", async (load) => {
  const real = await load<typeof import("./key-agreement.ts")>();
  const checked = new Map<string, boolean>();
  const text = (bytes: Uint8Array) => Buffer.from(bytes).toString("latin1");
  const verifySigned: typeof real.verifySigned = (identity, label, body, signature) => {
    const key = [text(identity), label, text(body), text(signature)].join("|");
    const isValid = checked.get(key) ?? real.verifySigned(identity, label, body, signature);
    checked.set(key, isValid);
    return isValid;
  };
  return { ...real, verifySigned };
});

const STEPS = 5;

interface Tally {
  cases: number;
  sums: number;
  tooSmall: number;
  /** What went wrong, at most one line per leaf; must stay empty. */
  wrong: string[];
}

/** The largest takes 5 s of one core; it must not fail because the machine is busy. */
const PATIENCE = { timeout: 120_000 };

test.each([4, 5, 6, 7, 8])("n = %i: the sum of U3, or a named end where fewer than t are left", PATIENCE, (size) => {
  const cohort = testCohort(size);
  const tally: Tally = { cases: 0, sums: 0, tooSmall: 0, wrong: [] };
  walk(cohort, begin(), 1, tally);
  expect(tally.wrong).toEqual([]);
  expect(tally.cases).toBe(6 ** size);
  expect(tally.sums).toBe(sumsOf(size, size - cohort.terms.threshold));
  expect(tally.tooSmall).toBeGreaterThan(0);
});

/** @param depth  which step is being closed, from 1 */
function walk(cohort: TestCohort, before: World, depth: number, tally: Tally): void {
  const world = everybodyAnswers(cohort, before);
  for (const members of subsetsOf(asked(cohort.terms, before.state))) {
    const closed = closeOrFault(cohort, world, members);
    if (closed instanceof SecaggFault) {
      tally.tooSmall++;
      tally.cases += (STEPS + 1 - depth) ** members.length;
      if (closed.code !== "CohortTooSmall" || members.length >= cohort.terms.threshold) {
        tally.wrong.push(`step ${depth}, ${members.join(" ")}: ${closed.code}`);
      }
    } else if (depth < STEPS) walk(cohort, closed, depth + 1, tally);
    else {
      tally.sums++;
      tally.cases++;
      const sum = unmaskedSum(cohort, closed);
      if (String(sum) !== String(plainSum(closed))) tally.wrong.push(`released by ${members.join(" ")}: ${sum}`);
    }
  }
}

function closeOrFault(cohort: TestCohort, world: World, members: readonly number[]): World | SecaggFault {
  try {
    return close(cohort, world, members);
  } catch (error) {
    if (error instanceof SecaggFault) return error;
    throw error;
  }
}

function* subsetsOf(items: readonly number[]): Generator<number[]> {
  for (let mask = 0; mask < 2 ** items.length; mask++) yield items.filter((_, at) => (mask >> at) & 1);
}

/** In how many of the 6^n cases at most `spare` members are lost: Σ C(n, k)·5^k. */
function sumsOf(size: number, spare: number): number {
  let choose = 1;
  let sum = 0;
  for (let lost = 0; lost <= spare; lost++) {
    sum += choose * STEPS ** lost;
    choose = (choose * (size - lost)) / (lost + 1);
  }
  return sum;
}
