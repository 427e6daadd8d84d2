/**
 * A participant that reveals wrong shares, and one that dealt wrong ones, against the real coordinator's side (secure-aggregation.md §3 "Bad
 * shares"): never a wrong sum; the liar is named, or the dealer whose shares do not fit.
 */
import { describe, expect, test } from "vitest";
import { type CohortState, openCohort } from "./coordinator/cohort.ts";
import { recover } from "./coordinator/recover.ts";
import type { ShareKeys, Unmask } from "./messages.ts";
import { close, everybodyAnswers, plainSum, runTo, unmaskedSum, type World } from "./testing/conduct.ts";
import { cohort, expectFault, fault, full, LIAR, SECOND_LIAR, terms } from "./testing/liar.ts";
import { flipBit, inconsistentShares, wrongUnmask } from "./testing/lies.ts";

describe("wrong shares in M4", () => {
  test.each([
    { says: "one liar", lies: [[LIAR, "all"]] },
    { says: "a liar about one member only", lies: [[LIAR, 5]] },
    {
      says: "two liars",
      lies: [
        [LIAR, "all"],
        [SECOND_LIAR, "all"],
      ],
    },
    {
      says: "two liars about different members",
      lies: [
        [LIAR, 1],
        [SECOND_LIAR, 8],
      ],
    },
  ] as { says: string; lies: [number, "all" | number][] }[])("$says: named, and the sum is right", ({ lies }) => {
    const world = complete(lies);
    expect(recover(terms, world.state).liars).toEqual(lies.map(([index]) => index));
    expect(unmaskedSum(cohort, world)).toEqual(plainSum(world));
  });

  test("a lost member's shares may be wrong as well", () => {
    const asked = runTo(cohort, "unmask", { mask: [1] });
    const world = complete([[LIAR, 1]], asked);
    expect(recover(terms, world.state).liars).toEqual([LIAR]);
    expect(unmaskedSum(cohort, world)).toEqual(plainSum(world));
  });

  test("more liars than can be spared: no sum at all", () => {
    const world = complete([
      [LIAR, "all"],
      [SECOND_LIAR, "all"],
      [1, "all"],
    ]);
    expectFault(() => recover(terms, world.state), "InconsistentDealer");
  });

  test("no share to spare and a liar: no sum at all", () => {
    const world = close(cohort, complete([[LIAR, 5]], undefined, "unmask"), [1, 2, 3, 4, 5, 6]);
    expect(fault(() => recover(terms, world.state))).toMatchObject({
      code: "InconsistentDealer",
      accused: ["clinic-005"],
    });
  });

  test("fewer than t answers: no sum at all", () => {
    expect(
      fault(() =>
        recover(
          terms,
          full.unmask.state.step === "unmask"
            ? { ...full.unmask.state, step: "complete", answers: new Map() }
            : openCohort(),
        ),
      ),
    ).toMatchObject({ code: "NotEnoughShares" });
    expectFault(() => recover(terms, openCohort()), "NotEnoughShares");
  });
});

describe("an inconsistent dealer", () => {
  test("of other secrets than it committed to: the attempt is lost under its name", () => {
    const world = dealtBy((others) => others);
    expect(fault(() => recover(terms, world.state))).toMatchObject({
      code: "InconsistentDealer",
      accused: ["clinic-003"],
    });
  });

  test("of shares that fit nothing: the attempt is lost under its name", () => {
    const scatter = (shares: { x: number; share: Uint8Array }[]) =>
      shares.map(({ x, share }) => ({ x, share: flipBit(share, x) }));
    const world = dealtBy((_, honest) => ({
      selfShares: scatter(honest.selfShares),
      pairShares: scatter(honest.pairShares),
    }));
    expect(fault(() => recover(terms, world.state))).toMatchObject({
      code: "InconsistentDealer",
      accused: ["clinic-003"],
    });
  });

  test("that is lost before it masks costs the attempt as well: its masks are in the others' vectors", () => {
    const world = dealtBy((others) => others, { mask: [LIAR] });
    expect(fault(() => recover(terms, world.state))).toMatchObject({
      code: "InconsistentDealer",
      accused: ["clinic-003"],
    });
  });

  test("of one wrong share makes its receiver look like a liar, and cannot spoil the sum", () => {
    const world = dealtBy((others, honest) => ({
      selfShares: honest.selfShares.map((share, at) => (at === 4 ? others.selfShares[at]! : share)),
      pairShares: honest.pairShares,
    }));
    expect(recover(terms, world.state).liars).toEqual([5]);
    expect(unmaskedSum(cohort, world)).toEqual(plainSum(world));
  });
});

/** A session in which some reveal wrong shares: [who, of whom]. */
function complete(
  lies: [number, "all" | number][],
  asked = runTo(cohort, "unmask"),
  until: "unmask" | "complete" = "complete",
): World {
  const honest = everybodyAnswers(cohort, asked);
  const answers = new Map(honest.state.answers as ReadonlyMap<number, Unmask>);
  for (const [index, of] of lies) answers.set(index, wrongUnmask(answers.get(index)!, of));
  const world = { ...honest, state: { ...honest.state, answers } as CohortState };
  return until === "unmask" ? world : close(cohort, world);
}

/** A session whose dealer LIAR follows the protocol but for what it deals. */
function dealtBy(dealt: Parameters<typeof inconsistentShares>[3], lost: { mask?: number[] } = {}): World {
  const honest = full.share;
  const bad = inconsistentShares(cohort, LIAR, honest.participants.get(LIAR)!, dealt);
  const answers = new Map(honest.state.answers as ReadonlyMap<number, ShareKeys>).set(LIAR, bad.message);
  const participants = new Map(honest.participants).set(LIAR, bad.next);
  let world: World = { ...honest, participants, state: { ...honest.state, answers } as CohortState };
  world = close(cohort, world);
  while (world.state.step !== "complete") {
    const { step } = world.state;
    const answered = everybodyAnswers(cohort, world);
    const gone = new Set(step === "mask" ? lost.mask : []);
    world = close(
      cohort,
      answered,
      [...answered.state.answers.keys()].filter((index) => !gone.has(index)),
    );
  }
  return world;
}
