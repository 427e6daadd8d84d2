import { describe, expect, test } from "vitest";
import { decide } from "./decide.ts";
import type { RoundRecord } from "./record.ts";
import { applyReport, isOfEndedAttempt, uploadFault } from "./reports.ts";
import { cohort, FIVE, SEVEN, secureAt, secureTraining } from "./testing/cohorts.ts";
import { contribution, T0, TERMS, world } from "./testing/worlds.ts";
import type { PlanResult, World } from "./world.ts";

const TEN = [...SEVEN, "hal", "ida", "joe"];
const everybody = new Set(TEN);
const without = (...names: string[]) => FIVE.filter((name) => !names.includes(name));
/** Ends of the steps of secureAt(): the training deadline of secureTraining() is at T0 + 600 s. */
const late = { share: T0 + 18_000, mask: T0 + 84_000, consistency: T0 + 102_000 };

/** As planned with one retry and an accept deadline of a minute. */
const planned = (record: RoundRecord, over: Partial<NonNullable<RoundRecord["plan"]>> = {}): RoundRecord => ({
  ...record,
  plan: { ...record.plan!, retries: 1, acceptMs: TERMS.acceptMs, ...over },
});
const look = (record: RoundRecord, over: Partial<World> = {}) =>
  decide(record, world({ connected: everybody, ...over }));

interface Case {
  says: string;
  record: RoundRecord;
  world?: Partial<World>;
  /** The cohorts of the next attempt, or why there is none. */
  kept: string[][] | string;
  attempts?: RoundRecord["attempts"];
  deadlines?: object;
  states?: string[];
  told?: string[];
}

const cases: Case[] = [
  {
    says: "lost before anybody has shared are removed, which is no failure, and whoever trains keeps its time",
    record: planned(
      secureTraining([cohort(FIVE, { answered: ["cy"] })], { ann: "Refused", ben: "Failed", dee: "Training" }),
    ),
    kept: [["cy", "dee", "eve"]],
    attempts: { failed: 0, removals: 1 },
    deadlines: { kind: "kept", acceptMs: T0 + TERMS.acceptMs, trainingMs: T0 + TERMS.trainingMs },
    states: ["Refused", "Failed", "Trained", "Training", "Trained"],
    told: [],
  },
  {
    says: "lost at the last moment of training leave the others the time to send new keys",
    record: planned(secureTraining([cohort(FIVE)], { ann: "Failed", ben: "Failed" })),
    world: { nowMs: T0 + TERMS.trainingMs - 1 },
    kept: [["cy", "dee", "eve"]],
    attempts: { failed: 0, removals: 1 },
    deadlines: { kind: "kept", trainingMs: T0 + TERMS.trainingMs - 1 + TERMS.acceptMs },
  },
  {
    says: "lost by the training deadline make a failed attempt: nobody trains any more",
    record: planned(secureTraining([cohort(FIVE, { answered: ["cy", "dee", "eve"] })])),
    world: { nowMs: T0 + TERMS.trainingMs },
    kept: [["cy", "dee", "eve"]],
    attempts: { failed: 1, removals: 0 },
    deadlines: { kind: "anew", withinMs: TERMS.acceptMs },
    states: ["Lost", "Lost", "Trained", "Trained", "Trained"],
    told: ["ann", "ben"],
  },
  {
    says: "lost while keys are shared make a failed attempt",
    record: planned(secureAt("share", without("ann", "ben"), { states: { ann: "Failed", ben: "Failed" } })),
    kept: [["cy", "dee", "eve"]],
    attempts: { failed: 1, removals: 0 },
    deadlines: { kind: "anew", withinMs: TERMS.acceptMs },
  },
  {
    says: "whose shares did not come in time are told to stop",
    record: planned(secureAt("share", without("ann", "ben"))),
    world: { nowMs: late.share },
    kept: [["cy", "dee", "eve"]],
    states: ["Lost", "Lost", "Trained", "Trained", "Trained"],
    told: ["ann", "ben"],
  },
  {
    says: "vectors that came are in no sum: their senders have trained, and are asked again",
    record: planned(secureAt("mask", without("ann", "ben"))),
    world: { nowMs: late.mask },
    kept: [["cy", "dee", "eve"]],
    states: ["Lost", "Lost", "Trained", "Trained", "Trained"],
  },
  {
    says: "who uploaded and does not sign by the deadline is out too",
    record: planned(secureAt("consistency", without("ann", "ben"))),
    world: { nowMs: late.consistency },
    kept: [["cy", "dee", "eve"]],
    states: ["Lost", "Lost", "Trained", "Trained", "Trained"],
    told: ["ann", "ben"],
  },
  {
    says: "who uploaded and aborted then is out with its own reason",
    record: planned(
      secureAt("consistency", [], {
        cohort: {
          gone: ["ann", "ben"].map((name) => ({ name, reason: "TranscriptDiffers", message: "U2 is another" })),
        },
      }),
    ),
    kept: [["cy", "dee", "eve"]],
    states: ["Failed", "Failed", "Trained", "Trained", "Trained"],
  },
  {
    says: "two who cannot open a member's shares take it with them",
    record: planned(
      secureTraining(
        [
          cohort([...FIVE, "fay"], {
            step: "mask",
            u1: [...FIVE, "fay"],
            u2: [...FIVE, "fay"],
            accusations: ["ann", "ben"].map((by) => ({ by, accused: ["cy"] })),
          }),
        ],
        { ann: "Failed", ben: "Failed" },
      ),
    ),
    kept: [["dee", "eve", "fay"]],
    states: ["Failed", "Failed", "Excluded", "Trained", "Trained", "Trained"],
    told: ["cy"],
  },
  {
    says: "a second failure is one too many for one retry",
    record: {
      ...planned(secureAt("share", without("ann", "ben"), { states: { ann: "Failed", ben: "Failed" } })),
      attempt: 2,
      attempts: { failed: 1, removals: 0 },
    },
    kept: "secure aggregation of attempt 2 ended: 3 of 5 are left while keys were shared, 4 are needed; ann Failed; ben Failed",
  },
  {
    says: "a removal needs no retry",
    record: planned(secureTraining([cohort(FIVE)], { ann: "Refused", ben: "Failed" }), { retries: 0 }),
    kept: [["cy", "dee", "eve"]],
    attempts: { failed: 0, removals: 1 },
  },
  {
    says: "without retries a failure is the end",
    record: planned(secureAt("share", without("ann", "ben"), { states: { ann: "Failed", ben: "Failed" } }), {
      retries: 0,
    }),
    kept: "secure aggregation ended: 3 of 5 are left while keys were shared, 4 are needed; ann Failed; ben Failed",
  },
  {
    says: "fewer than the minimum are not tried again",
    record: planned(secureTraining([cohort(FIVE)], { ann: "Refused", ben: "Failed" }), { minimum: 4 }),
    kept: "secure aggregation ended: 3 of 5 are left before keys were shared, 4 are needed; ann Refused; ben Failed",
  },
  {
    says: "two cannot hide each other",
    record: planned(secureTraining([cohort(FIVE)], { ann: "Refused", ben: "Failed", cy: "Failed" }), { minimum: 2 }),
    kept: "secure aggregation ended: 2 of 5 are left before keys were shared, 4 are needed; ann Refused; ben Failed; cy Failed",
  },
  {
    says: "once shares of the masks may be out there is no other attempt",
    record: planned(secureAt("unmask", ["cy", "dee"], { cohort: { signers: FIVE } })),
    world: { nowMs: T0 + TERMS.aggregationMs },
    kept: "secure aggregation ended: 2 of 5 are left while the masks were removed, 4 are needed; ann contributed and then did not answer; ben contributed and then did not answer; eve contributed and then did not answer",
  },
];

describe("when members of a secure round are lost", () => {
  test.each(cases.filter(({ kept }) => Array.isArray(kept)))("$says", ({ record, world: over, ...then }) => {
    const decision = look(record, over);
    expect(decision.record).toMatchObject({ phase: "Planning", attempt: record.attempt + 1, contributions: [] });
    expect(decision.record.next!.cohorts).toEqual(then.kept);
    expect(decision.record.secure).toBeUndefined();
    if (then.attempts) expect(decision.record.attempts).toEqual(then.attempts);
    if (then.deadlines) expect(decision.record.next!.deadlines).toMatchObject(then.deadlines);
    if (then.states) expect(decision.record.participants.map((p) => p.state)).toEqual(then.states);
    if (then.told)
      expect(decision.actions.flatMap((a) => (a.do === "cancel" ? a.participants : []))).toEqual(then.told);
    // At once: the others wait.
    expect(decision.lookAgainAtMs).toBe(over?.nowMs ?? T0);
  });

  test.each(cases.filter(({ kept }) => typeof kept === "string"))("$says", ({ record, world: over, kept }) => {
    expect(look(record, over).record).toMatchObject({
      phase: "Failed",
      outcome: { reason: "CohortTooSmall", message: kept },
    });
  });
});

describe("of several cohorts", () => {
  const [FIRST, SECOND] = [TEN.slice(0, 5), TEN.slice(5)];
  const shares = { step: "share" as const, u1: FIRST };
  const lost = { fay: "Failed", gus: "Failed" } as const;
  const inShare = (states: Parameters<typeof secureTraining>[1], minimum: number) => {
    const cohorts = [cohort(FIRST, shares), cohort(SECOND, { ...shares, u1: SECOND })];
    const record = planned(secureTraining(cohorts, states), { minimum });
    return { ...record, phase: "Aggregating" as const };
  };

  test("the split stays, and a removal saves what it can: it costs nothing", () => {
    const record = planned(secureTraining([cohort(FIRST), cohort(SECOND)], lost));
    expect(look(record).record.next!.cohorts).toEqual([FIRST, ["hal", "ida", "joe"]]);
  });

  test("one that failed goes without a new attempt while the others alone meet the minimum", () => {
    const { record } = look(inShare(lost, 5));
    expect(record).toMatchObject({ phase: "Aggregating", attempt: 1 });
    expect(record.secure!.cohorts.map(({ failure }) => failure?.code)).toEqual([undefined, "CohortTooSmall"]);
  });

  test("one that failed is tried again with the others where it is needed", () => {
    const { record } = look(inShare(lost, 6));
    expect(record).toMatchObject({ phase: "Planning", attempts: { failed: 1 } });
    expect(record.next!.cohorts).toEqual([FIRST, ["hal", "ida", "joe"]]);
  });

  test("one of which two are left is no reason for a new attempt, and no part of one", () => {
    const three = { ...lost, hal: "Failed" } as const;
    const alone = look(planned(secureTraining([cohort(FIRST), cohort(SECOND)], three))).record;
    expect(alone).toMatchObject({ phase: "Training", attempt: 1 });
    const both = look(inShare({ ...three, ann: "Failed", ben: "Failed" }, 3));
    expect(both.record.next!.cohorts).toEqual([["cy", "dee", "eve"]]);
    expect(both.record.participants.slice(-2)).toMatchObject(
      ["ida", "joe"].map((name) => ({ name, state: "Excluded", reason: "CohortTooSmall" })),
    );
    expect(both.actions).toMatchObject(["ida", "joe"].map((name) => ({ do: "cancel", participants: [name] })));
  });

  test("one that may have revealed shares forbids an attempt of the others", () => {
    const revealing = { step: "unmask" as const, u1: FIRST, u2: FIRST, u3: FIRST, signers: FIRST };
    const cohorts = [cohort(FIRST, revealing), cohort(SECOND, { ...shares, u1: SECOND })];
    const contributed = Object.fromEntries(FIRST.map((name) => [name, "Contributed" as const]));
    const record = planned(secureTraining(cohorts, { ...contributed, ...lost }), { minimum: 6 });
    expect(look({ ...record, phase: "Aggregating" }).record).toMatchObject({ phase: "Failed" });
  });
});

describe("the next attempt", () => {
  const again = () => look(planned(secureAt("mask", without("ann", "ben"))), { nowMs: late.mask }).record;
  const nowMs = late.mask + 5;
  const plan: PlanResult = {
    kind: "made",
    attempt: 2,
    number: 1,
    hash: "cd",
    parentVersion: 0,
    parentByteLength: 500,
    uploadLimitBytes: 1000,
    roster: ["cy", "dee", "eve"],
    minimum: 3,
    aggregationMs: TERMS.aggregationMs,
    deadlines: { acceptMs: nowMs + 60_000, trainingMs: nowMs + 60_000, aggregationMs: nowMs + 180_000 },
    secure: { byteLength: 100, cohorts: [{ members: ["cy", "dee", "eve"], threshold: 3 }] },
  };

  test("is planned when what the last one left behind is cleared away", () => {
    const { record, actions } = look(again(), { nowMs });
    expect(record.phase).toBe("Planning");
    expect(actions).toEqual([{ do: "dropAttempt", attempt: 1 }, { do: "plan" }]);
  });

  test("does not take the last one's plan, or its draw, for its own", () => {
    expect(look(again(), { nowMs, plan: { ...plan, attempt: 1 } }).record.phase).toBe("Planning");
    const draw: PlanResult = { kind: "draw", number: 1, cohortSize: 6, members: SEVEN };
    expect(look(again(), { nowMs, plan: draw }).record.draw).toBeUndefined();
  });

  test("keeps the rows, the number and the terms, and its plan goes to everybody who is still in", () => {
    const { record, actions } = look(again(), { nowMs, plan });
    expect(record).toMatchObject({ phase: "Training", attempt: 2, number: 1, contributions: [] });
    expect(record.next).toBeUndefined();
    expect(record.plan).toMatchObject({ hash: "cd", retries: 1, acceptMs: TERMS.acceptMs });
    expect(record.participants.map((p) => p.state)).toEqual(["Lost", "Lost", "Trained", "Trained", "Trained"]);
    expect(record.secure!.cohorts).toMatchObject([{ members: ["cy", "dee", "eve"], threshold: 3, step: "advertise" }]);
    expect(actions).toEqual([{ do: "sendPlan", participants: ["cy", "dee", "eve"] }]);
  });

  test("waits for the keys of those who have trained until its own deadline, and no longer", () => {
    const { record } = look(again(), { nowMs, plan });
    expect(look(record, { nowMs: nowMs + 59_999 }).record.phase).toBe("Training");
    expect(look(record, { nowMs: nowMs + 60_000 }).record).toMatchObject({ phase: "Failed" });
  });

  test("hears its participants while it is planned, and takes no upload before it is", () => {
    const failed = applyReport(again(), "cy", { kind: "fail", reason: "DiskFull", message: "no room" }, nowMs);
    expect(failed.participants[2]).toMatchObject({ state: "Failed", reason: "DiskFull" });
    const sharing = { kind: "status", state: "Sharing", job: "", step: 0, steps: 0, reason: "", message: "" } as const;
    expect(applyReport(again(), "cy", sharing, nowMs).participants[2]!.state).toBe("Trained");
    expect(uploadFault(again(), contribution("cy"), nowMs)).toMatchObject({ code: "NotExpected" });
  });

  test("is given up when too few are left to plan for", () => {
    const failed = applyReport(again(), "cy", { kind: "fail", reason: "DiskFull", message: "no room" }, nowMs);
    expect(look(failed, { nowMs }).record).toMatchObject({
      phase: "Failed",
      outcome: { reason: "QuorumLost", message: expect.stringMatching(/^2 of 5 can still contribute, 3 are needed/) },
    });
  });

  test("that cannot be planned fails like a first one", () => {
    const failure: PlanResult = { kind: "failed", problem: "the parent is gone", retry: false };
    expect(look(again(), { nowMs, plan: failure }).record.outcome).toMatchObject({ reason: "PlanFailed" });
    expect(look(again(), { nowMs: late.mask + 300_000 }).record.outcome).toMatchObject({ reason: "PlanFailed" });
  });

  test.each([
    { kind: "status", isOver: false },
    { kind: "fail", isOver: false },
    { kind: "accept", isOver: true },
    { kind: "refuse", isOver: true },
    { kind: "advertise", isOver: true },
    { kind: "upload", isOver: true },
  ])("ends what was said in the last one: $kind $isOver", ({ kind, isOver }) => {
    expect(isOfEndedAttempt(again(), 1, kind)).toBe(isOver);
    expect(isOfEndedAttempt(again(), 2, kind)).toBe(false);
  });
});
