import { describe, expect, test } from "vitest";
import { decide } from "./decide.ts";
import type { RoundRecord } from "./record.ts";
import { cohort, FIVE, SEVEN, secureAt, secureTraining } from "./testing/cohorts.ts";
import { aggregating, training, world } from "./testing/worlds.ts";
import type { World } from "./world.ts";

const wanting = (record: RoundRecord, enough: number): RoundRecord => ({
  ...record,
  plan: { ...record.plan!, enough },
});
const look = (record: RoundRecord, over: Partial<World> = {}) =>
  decide(record, world({ connected: new Set(SEVEN), ...over }));
const states = (record: RoundRecord) => record.participants.map((p) => p.state);
const told = ({ actions }: ReturnType<typeof look>) =>
  actions.flatMap((action) => (action.do === "cancel" ? [[action.reason, ...action.participants]] : []));
const added = (...names: string[]) => ({ sum: { added: names, refused: [] } });
const [FIRST, SECOND] = [SEVEN.slice(0, 4), SEVEN.slice(4)];

describe("a trusted round that wants two of three", () => {
  test("does not wait for the third when two are in the sum", () => {
    const decision = look(wanting(training("Training", "Contributed", "Contributed"), 2), added("ben", "cy"));
    expect(decision.record.phase).toBe("Aggregating");
    expect(decision.record.participants[0]).toMatchObject({ state: "Excluded", reason: "NotNeeded" });
    expect(told(decision)).toEqual([["NotNeeded", "ann"]]);
  });

  test("waits while one of the two may turn out to be none", () => {
    const { record } = look(wanting(training("Training", "Contributed", "Contributed"), 2), added("ben"));
    expect(states(record)).toEqual(["Training", "Contributed", "Contributed"]);
  });

  test("leaves an upload behind that is still under way", () => {
    const decision = look(wanting(aggregating("Sharing", "Contributed", "Contributed"), 2), added("ben", "cy"));
    expect(states(decision.record)).toEqual(["Excluded", "Contributed", "Contributed"]);
    expect(decision.actions.at(-1)).toMatchObject({ do: "makeCandidate" });
  });

  test("takes a third that was there in time", () => {
    const decision = look(wanting(training("Contributed", "Contributed", "Contributed"), 2), added("ann", "ben", "cy"));
    expect(told(decision)).toEqual([]);
    expect(look(decision.record, added("ann", "ben", "cy")).actions).toMatchObject([
      { do: "makeCandidate", contributions: [{}, {}, {}] },
    ]);
  });

  test("that fails in the end names who is to blame, and not who was not needed", () => {
    const { record } = look(wanting(training("Training", "Contributed", "Contributed"), 2), added("ben", "cy"));
    const refused = [{ participant: "ben", reason: "NotOpened", message: "record 1 was altered" }];
    expect(look(record, { sum: { added: ["cy"], refused } }).record.outcome!.message).toBe(
      "1 of 3 can still contribute, 2 are needed; ben Excluded (record 1 was altered)",
    );
  });

  test("waits for everybody where it wants everybody", () => {
    expect(look(training("Training", "Contributed", "Contributed"), added("ben", "cy")).record.phase).toBe("Training");
  });
});

describe("a secure round", () => {
  test("shares keys as soon as so many have sent theirs as it wants, and the cohort can be opened", () => {
    const record = wanting(secureTraining([cohort(FIVE, { answered: FIVE.slice(1) })], { ann: "Training" }), 4);
    const decision = look(record);
    expect(decision.record.phase).toBe("Aggregating");
    expect(decision.record.secure!.cohorts[0]).toMatchObject({ step: "share", u1: FIVE.slice(1) });
    expect(told(decision)).toEqual([["NotNeeded", "ann"]]);
  });

  test("waits for a cohort that is below its threshold, whatever the other has", () => {
    const cohorts = [cohort(FIRST, { answered: FIRST }), cohort(SECOND, { answered: SECOND.slice(1) })];
    expect(look(wanting(secureTraining(cohorts), 6)).record.phase).toBe("Training");
  });

  test("counts the cohorts together", () => {
    const cohorts = [cohort(FIRST, { answered: FIRST.slice(1) }), cohort(SECOND, { answered: SECOND })];
    const decision = look(wanting(secureTraining(cohorts), 6));
    expect(decision.record.secure!.cohorts.map(({ u1 }) => u1)).toEqual([FIRST.slice(1), SECOND]);
    expect(told(decision)).toEqual([["NotNeeded", "ann"]]);
  });

  test("does not count keys of somebody who is out", () => {
    const record = wanting(secureTraining([cohort(FIVE, { answered: FIVE.slice(1) })], { ben: "Failed" }), 4);
    expect(look(record).record.participants[0]!.state).toBe("Trained");
  });

  test("confirms the survivors as soon as so many vectors are there as it wants", () => {
    const decision = look(wanting(secureAt("mask", FIVE.slice(1)), 4));
    expect(decision.record.secure!.cohorts[0]).toMatchObject({ step: "consistency", u3: FIVE.slice(1) });
    expect(decision.record.participants[0]).toMatchObject({ state: "Excluded", reason: "NotNeeded" });
  });

  test("leaves nobody behind while keys are dealt: everybody who has sent keys is needed to deal", () => {
    const { record } = look(wanting(secureAt("share", FIVE.slice(1)), 4));
    expect(record.secure!.cohorts[0]).toMatchObject({ step: "share" });
    expect(record.participants[0]!.state).toBe("Trained");
  });

  test("closes no cohort while another one deals its keys: it may still fail, and then everybody counts", () => {
    const cohorts = [
      cohort(FIRST, { step: "mask", u1: FIRST, u2: FIRST, answered: FIRST.slice(1) }),
      cohort(SECOND, { step: "share", u1: SECOND }),
    ];
    const contributed = Object.fromEntries(FIRST.slice(1).map((name) => [name, "Contributed" as const]));
    const record = wanting(secureTraining(cohorts, { ...contributed, ann: "Sharing" }), 3);
    expect(told(look({ ...record, phase: "Aggregating" }))).toEqual([]);
  });

  test("counts a cohort that has confirmed its survivors already", () => {
    const cohorts = [
      cohort(FIRST, { step: "mask", u1: FIRST, u2: FIRST, answered: FIRST.slice(1) }),
      cohort(SECOND, { step: "consistency", u1: SECOND, u2: SECOND, u3: SECOND }),
    ];
    const contributed = Object.fromEntries(
      [...FIRST.slice(1), ...SECOND].map((name) => [name, "Contributed" as const]),
    );
    const record = wanting(secureTraining(cohorts, { ...contributed, ann: "Sharing" }), 6);
    expect(told(look({ ...record, phase: "Aggregating" }))).toEqual([["NotNeeded", "ann"]]);
  });
});
