import { describe, expect, test } from "vitest";
import { decide } from "./decide.ts";
import type { Cohort, RoundRecord } from "./record.ts";
import { cohort, FIVE, SEVEN, secureAt, secureTraining } from "./testing/cohorts.ts";
import { T0, world } from "./testing/worlds.ts";
import type { SumView, World } from "./world.ts";

interface Case {
  says: string;
  record: RoundRecord;
  world?: Partial<World>;
  phase: RoundRecord["phase"];
  /** `do` of every action, in order. */
  does?: string[];
  /** Of the first cohort. */
  is?: Partial<Cohort>;
  reason?: string;
  message?: RegExp;
  states?: string[];
}

const everybody = new Set(SEVEN);
const added = (opened: SumView["opened"] = [], closed: SumView["closed"] = []): SumView => ({
  added: FIVE,
  refused: [],
  opened,
  closed,
});
const without = (...names: string[]) => FIVE.filter((name) => !names.includes(name));
/** shareMs 18 s, maskMs 84 s, consistencyMs 102 s, aggregationMs 120 s after T0. */
const late = { share: T0 + 18_000, mask: T0 + 84_000, consistency: T0 + 102_000, unmask: T0 + 120_000 };

const planned = (record: RoundRecord, over: Partial<NonNullable<RoundRecord["plan"]>>): RoundRecord => ({
  ...record,
  plan: { ...record.plan!, ...over },
});

const cases: Case[] = [
  {
    says: "keys are waited for while somebody who has trained may still send them",
    record: secureTraining([cohort(FIVE, { answered: without("eve") })]),
    phase: "Training",
    does: ["sendPlan"],
    is: { step: "advertise" },
  },
  {
    says: "with the last keys sharing begins, and everybody is shown them",
    record: secureTraining([cohort(FIVE, { answered: ["eve", "dee", "cy", "ben", "ann"] })]),
    phase: "Aggregating",
    is: { step: "share", u1: FIVE, answered: [] },
  },
  {
    says: "who has trained and sent no keys by the training deadline is Lost, and the others share",
    record: secureTraining([cohort(FIVE, { answered: without("eve") })]),
    world: { nowMs: T0 + 600_000, connected: everybody },
    phase: "Aggregating",
    does: ["cancel"],
    is: { step: "share", u1: without("eve") },
    states: ["Trained", "Trained", "Trained", "Trained", "Lost"],
  },
  {
    says: "keys of one who has failed since are in no set",
    record: secureTraining([cohort(FIVE, { answered: FIVE })], { cy: "Failed" }),
    phase: "Aggregating",
    is: { step: "share", u1: without("cy") },
  },
  {
    says: "no cohort shares while another one trains",
    record: secureTraining(
      [cohort(SEVEN.slice(0, 4), { answered: SEVEN.slice(0, 4) }), cohort(SEVEN.slice(4), { answered: ["eve"] })],
      { gus: "Training" },
    ),
    world: { connected: everybody },
    phase: "Training",
    is: { step: "advertise" },
  },
  {
    says: "a cohort that cannot reach its threshold any more ends the round, when the others are fewer than the minimum",
    record: planned(secureTraining([cohort(FIVE)], { ann: "Refused", ben: "Failed" }), { minimum: 4 }),
    phase: "Failed",
    reason: "CohortTooSmall",
    message:
      /^secure aggregation ended: 3 of 5 are left before keys were shared, 4 are needed; ann Refused; ben Failed$/,
    states: ["Refused", "Failed", "Excluded", "Excluded", "Excluded"],
  },
  {
    says: "who has not shared is asked",
    record: secureAt("share", ["ann"]),
    phase: "Aggregating",
    does: ["announce"],
    is: { step: "share", answered: ["ann"] },
  },
  {
    says: "at the step's instant the silent one is Lost and the step is closed",
    record: secureAt("share", without("ann")),
    world: { nowMs: late.share, connected: everybody },
    phase: "Aggregating",
    does: ["cancel", "announce"],
    is: { step: "mask", u2: without("ann"), answered: [] },
    states: ["Lost", "Trained", "Trained", "Trained", "Trained"],
  },
  {
    says: "where too few would be left for good, the silent ones may use up the next step's time: the operator may have been away",
    record: secureAt("share", ["ann"]),
    world: { nowMs: late.share, connected: new Set() },
    phase: "Aggregating",
    does: ["announce"],
    is: { step: "share", answered: ["ann"] },
    states: ["Trained", "Trained", "Trained", "Trained", "Trained"],
  },
  {
    says: "as soon as enough are back, nobody else is waited for",
    record: secureAt("share", without("ann")),
    world: { nowMs: late.mask - 1, connected: everybody },
    phase: "Aggregating",
    is: { step: "mask", u2: without("ann") },
    states: ["Lost", "Trained", "Trained", "Trained", "Trained"],
  },
  {
    says: "at the next step's instant too few are too few",
    record: secureAt("share", ["ann"]),
    world: { nowMs: late.mask, connected: new Set() },
    phase: "Failed",
    reason: "CohortTooSmall",
    message: /^secure aggregation ended: 1 of 5 are left while keys were shared, 4 are needed; ben Lost/,
  },
  {
    says: "a step does not wait for one who has failed",
    record: secureAt("share", without("ann"), { states: { ann: "Failed" } }),
    phase: "Aggregating",
    is: { step: "mask", u2: without("ann") },
  },
  {
    says: "nor for one who was suspended",
    record: secureAt("share", without("ann")),
    world: { revoked: new Set(["ann"]) },
    phase: "Aggregating",
    is: { step: "mask", u2: without("ann") },
    states: ["Lost", "Trained", "Trained", "Trained", "Trained"],
  },
  {
    says: "masked vectors are added while others are still on their way",
    record: secureAt("mask", ["ann", "ben"]),
    phase: "Aggregating",
    does: ["sum", "announce"],
  },
  {
    says: "an upload that does not end by the step's instant is Lost, and U3 is who has contributed",
    record: secureAt("mask", without("dee")),
    world: { nowMs: late.mask },
    phase: "Aggregating",
    is: { step: "consistency", u3: without("dee") },
    states: ["Contributed", "Contributed", "Contributed", "Lost", "Contributed"],
  },
  {
    says: "who contributed and was suspended since stays in the sum, and is not waited for",
    record: secureAt("consistency", without("ann")),
    world: { revoked: new Set(["ann"]), sum: added() },
    phase: "Aggregating",
    is: { step: "unmask", u3: FIVE, signers: without("ann") },
    states: ["Contributed", "Contributed", "Contributed", "Contributed", "Contributed"],
  },
  {
    says: "who contributed and does not confirm by the instant costs nothing",
    record: secureAt("consistency", without("ann")),
    world: { nowMs: late.consistency, sum: added() },
    phase: "Aggregating",
    is: { step: "unmask", signers: without("ann") },
  },
  {
    says: "too few that confirm lose the cohort with who said nothing and who left",
    record: secureAt("consistency", ["ann", "ben", "cy"], {
      cohort: {
        gone: [{ name: "dee", reason: "SurvivorsInvalid", message: "the survivors are not those of the list" }],
      },
    }),
    world: { nowMs: late.unmask, sum: added() },
    phase: "Failed",
    reason: "CohortTooSmall",
    message:
      /3 of 5 are left while the survivors were confirmed, 4 are needed; dee SurvivorsInvalid \(the survivors .*\); eve contributed and then did not answer$/,
    states: ["Excluded", "Excluded", "Excluded", "Excluded", "Excluded"],
  },
  {
    says: "whoever is accused stands first",
    record: secureAt("mask", [], {
      states: { ann: "Failed", ben: "Failed" },
      cohort: {
        accusations: [
          { by: "ann", accused: ["eve"] },
          { by: "ben", accused: ["eve"] },
        ],
      },
    }),
    phase: "Failed",
    reason: "CohortTooSmall",
    message: /4 are needed; the shares of eve could not be opened by ann, ben; ann Failed; ben Failed$/,
  },
  {
    says: "with the last shares the masks are removed",
    record: secureAt("unmask", FIVE),
    world: { sum: added() },
    phase: "Aggregating",
    does: ["unmask"],
    is: { step: "complete", answered: FIVE },
  },
  {
    says: "enough shares at the last instant are enough",
    record: secureAt("unmask", without("eve")),
    world: { sum: added(), nowMs: late.unmask },
    phase: "Aggregating",
    does: ["unmask"],
    is: { step: "complete", answered: without("eve") },
  },
  {
    says: "a sum without masks becomes the candidate, and who lied is noted",
    record: secureAt("complete", FIVE),
    world: { sum: added([{ cohort: 0, liars: ["cy"] }]) },
    phase: "Aggregating",
    does: ["makeCandidate"],
    is: { liars: ["cy"] },
  },
  {
    says: "and is published",
    record: secureAt("complete", FIVE),
    world: {
      sum: added([{ cohort: 0, liars: [] }]),
      candidate: { kind: "made", digest: "sha256:cc", file: "/adapters/cc", byteLength: 500 },
    },
    phase: "Publishing",
    does: ["publish"],
  },
  {
    says: "a dealer of inconsistent shares fails the round under its name",
    record: secureAt("complete", FIVE),
    world: {
      sum: added(
        [],
        [
          {
            cohort: 0,
            code: "InconsistentDealer",
            message: "x",
            accused: [{ participant: "dee", identity: "a2V5" }],
          },
        ],
      ),
    },
    phase: "Failed",
    reason: "InconsistentShares",
    message: /^dee dealt shares that do not fit together.*later rounds of this federation go without/,
  },
  {
    says: "a dealer whom one wrong share of another could make look so is named and not left out",
    record: secureAt("complete", FIVE.slice(0, 4)),
    world: {
      sum: added(
        [],
        [
          {
            cohort: 0,
            code: "InconsistentDealer",
            message: "x",
            accused: [{ participant: "dee", identity: "a2V5" }],
          },
        ],
      ),
    },
    phase: "Failed",
    reason: "InconsistentShares",
    message: /^dee dealt shares that do not fit together.*nobody is left out/,
  },
  {
    says: "too many wrong shares lose the cohort with the sentence of whoever found out",
    record: secureAt("complete", FIVE),
    world: {
      sum: added([], [{ cohort: 0, code: "NotEnoughShares", message: "2 of 4 shares are wrong", accused: [] }]),
    },
    phase: "Failed",
    reason: "NotEnoughShares",
    message: /^2 of 4 shares are wrong$/,
  },
  {
    says: "masks that are never removed are given up",
    record: secureAt("complete", FIVE),
    world: { sum: added(), nowMs: late.unmask + 120_000 },
    phase: "Failed",
    reason: "DeadlineExceeded",
  },
  {
    says: "after a restart far too late every step is closed with what is there",
    record: secureAt("share", FIVE),
    world: { nowMs: late.unmask },
    phase: "Failed",
    reason: "CohortTooSmall",
  },
];

describe("a secure round", () => {
  test.each(cases)("$says", ({ record, world: over, phase, does, is, reason, message, states }) => {
    const decision = decide(record, world({ connected: everybody, ...over }));
    expect(decision.record.phase).toBe(phase);
    if (does) expect(decision.actions.map((a) => a.do)).toEqual(does);
    if (is) expect(decision.record.secure!.cohorts[0]).toMatchObject(is);
    if (reason) expect(decision.record.outcome?.reason).toBe(reason);
    if (message) expect(decision.record.outcome?.message).toMatch(message);
    if (states) expect(decision.record.participants.map((p) => p.state)).toEqual(states);
  });

  test("time saved in training makes every step end earlier, in the same proportions", () => {
    const record = secureTraining([cohort(FIVE, { answered: FIVE })]);
    const { deadlines } = decide(record, world({ nowMs: T0 + 1000, connected: everybody })).record;
    const start = T0 + 1000;
    expect(deadlines).toMatchObject({
      shareMs: start + 18_000,
      maskMs: start + 84_000,
      consistencyMs: start + 102_000,
    });
  });

  test("who may use up the next step's time is looked at again when that ends", () => {
    const { lookAgainAtMs } = decide(secureAt("share", ["ann"]), world({ nowMs: late.share, connected: new Set() }));
    expect(lookAgainAtMs).toBe(late.mask);
  });

  test("when it succeeds, whoever kept its secrets until now is told that it is over", () => {
    const { candidate: _, ...record } = secureAt("complete", without("eve"));
    const published = { version: 1, digest: "sha256:dd", reference: "r@d" };
    const candidate = { digest: "sha256:cc", file: "/c", byteLength: 5, contributors: 5 };
    const { actions } = decide({ ...record, phase: "Publishing", candidate, published }, world({ activated: true }));
    expect(actions[0]).toMatchObject({ do: "cancel", participants: ["eve"], reason: "RoundEnded" });
  });

  test("a lost cohort takes only its own members along while the others are enough", () => {
    const record = secureTraining(
      [cohort(SEVEN.slice(0, 4), { answered: SEVEN.slice(0, 4) }), cohort(SEVEN.slice(4))],
      {
        eve: "Failed",
      },
    );
    const decision = decide(record, world({ connected: everybody }));
    expect(decision.record.phase).toBe("Aggregating");
    expect(decision.record.secure!.cohorts.map(({ failure }) => failure?.code)).toEqual([undefined, "CohortTooSmall"]);
    expect(decision.record.participants.map((p) => p.state)).toEqual([
      ...["Trained", "Trained", "Trained", "Trained"],
      ...["Failed", "Excluded", "Excluded"],
    ]);
  });
});
