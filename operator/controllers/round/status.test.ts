import { describe, expect, test } from "vitest";
import { federationRoundSchema } from "../../api/federation-round.ts";
import { decide } from "../../round/decide.ts";
import { enter } from "../../round/record.ts";
import { cohort, FIVE, SEVEN, secureAt, secureTraining } from "../../round/testing/cohorts.ts";
import { pending, publishing, T0, training, world } from "../../round/testing/worlds.ts";
import { statusOf } from "./status.ts";

const at = { generation: 1, nowMs: T0 };
const condition = (status: ReturnType<typeof statusOf>, type: string) =>
  status.conditions?.find((c) => c.type === type);

describe("the status of a round", () => {
  test("while it trains, it shows who does what and nothing of steps that were not reached", () => {
    const record = training("Training", "Contributed", "Failed");
    const status = statusOf(record, [], at);
    expect(status).toMatchObject({
      phase: "Training",
      contributions: "1/3",
      counts: { Training: 1, Contributed: 1, Failed: 1 },
    });
    expect(status.participants?.map((p) => p.name)).toEqual(["cy", "ann", "ben"]); // who needs a person first
    expect(status.conditions?.map((c) => c.type)).toEqual(["Planned", "Succeeded", "Reconciling"]);
    expect(condition(status, "Succeeded")).toMatchObject({ status: "Unknown", reason: "Training" });
  });

  test("while it waits, it says for what", () => {
    const { record } = decide(pending(), world({ earlier: "fed-r0" }));
    const status = statusOf(record, [], at);
    expect(condition(status, "Reconciling")).toMatchObject({
      reason: "EarlierRound",
      message: "fed-r0 of the same federation has not ended",
    });
  });

  test("when it failed, every step that was not reached says why, and it is stalled", () => {
    const { record } = decide(training("Refused", "Failed", "Training"), world());
    const status = statusOf(record, [], at);
    expect(condition(status, "Published")).toMatchObject({ status: "False", reason: "QuorumLost" });
    expect(condition(status, "Stalled")).toMatchObject({ status: "True", reason: "QuorumLost" });
    expect(condition(status, "Reconciling")).toBeUndefined();
  });

  test("a secure round says what its steps wait for, and how many contributions it needs", () => {
    const sharing = statusOf(secureAt("share", ["ann", "ben"]), [], at);
    expect(sharing.plan?.threshold).toBe(4);
    expect(condition(sharing, "Aggregated")).toMatchObject({ status: "Unknown", reason: "Sharing" });
    expect(condition(sharing, "Succeeded")?.message).toBe("step share: 2 of 5 have answered");
    const training = statusOf(secureTraining([cohort(FIVE, { answered: ["ann"] })], { ben: "Training" }), [], at);
    expect(condition(training, "Aggregated")).toMatchObject({ status: "Unknown", reason: "Advertising" });
    expect(condition(training, "Succeeded")?.message).toBe("participants train; step advertise: 1 of 5 have answered");
  });

  test("of several cohorts it says each one's step, and as its own the slowest", () => {
    const [four, three] = [SEVEN.slice(0, 4), SEVEN.slice(4)];
    const mask = cohort(four, { step: "mask", answered: ["ann"], u1: four, u2: four });
    const share = cohort(three, { step: "share", u1: three });
    const status = statusOf({ ...secureTraining([mask, share]), phase: "Aggregating" }, [], at);
    expect(condition(status, "Succeeded")?.message).toBe("steps of cohorts: 0 mask 1/4, 1 share 0/3");
    expect(condition(status, "Aggregated")).toMatchObject({ reason: "Sharing" });
  });

  test("when a cohort was lost, no sum is said to be made", () => {
    const { record } = decide(secureAt("share", FIVE, { states: { ann: "Failed", ben: "Failed" } }), world());
    const before = statusOf(secureAt("share", FIVE), [], at).conditions!;
    expect(condition(statusOf(record, before, at), "Aggregated")).toMatchObject({
      status: "False",
      reason: "CohortTooSmall",
    });
  });

  test("in a later attempt each phase stands once, with its last instant, and nothing of the attempt before", () => {
    const { secure: _, ...first } = secureAt("mask", ["ann", "ben", "cy", "dee"]);
    const before = statusOf(secureAt("mask", ["ann", "ben", "cy", "dee"]), [], at).conditions!;
    expect(condition({ observedGeneration: 1, conditions: before }, "QuorumReached")?.status).toBe("True");
    const participants = first.participants.map((p) => ({ ...p, state: "Trained" as const }));
    const again = { ...enter({ ...first, participants }, "Planning", T0 + 5_000), attempt: 2 };
    const planning = statusOf(again, before, at);
    expect(planning.phaseTimes?.map(({ phase }) => phase)).toEqual(["Pending", "Training", "Aggregating", "Planning"]);
    expect(planning.phaseTimes?.at(-1)?.at).toBe(new Date(T0 + 5_000).toISOString());
    expect(planning.conditions?.map((c) => c.type)).toEqual(["Planned", "Succeeded", "Reconciling"]);
    expect(condition(planning, "Succeeded")).toMatchObject({
      reason: "Planning",
      message: "attempt 2 is being planned without those who are lost",
    });
    const trained = { ...secureTraining([cohort(FIVE)]), attempt: 2 };
    const training = statusOf(trained, planning.conditions!, at);
    expect(condition(training, "Planned")?.message).toBe(
      "5 participants, parent version 0; attempt 2 among the 5 that are left",
    );
    expect(condition(training, "Succeeded")?.message).toMatch(
      /^attempt 2: what was trained is offered again; step adv/,
    );
  });

  test("what all contributors' losses come to is shown as a decimal, and nothing where there is none", () => {
    const record = publishing();
    const candidate = { ...record.candidate!, metrics: { trainLoss: 2.345678, tokens: 4096 } };
    expect(statusOf({ ...record, candidate }, [], at).metrics).toEqual({ trainLoss: "2.3457", tokens: 4096 });
    expect(statusOf(record, [], at)).not.toHaveProperty("metrics");
  });

  test("a round without participants yet counts no contributions", () =>
    expect(statusOf(pending(), [], at)).not.toHaveProperty("contributions"));

  test("a condition keeps its transition time as long as its status stays", () => {
    const record = training("Training", "Training", "Training");
    const first = statusOf(record, [], at);
    const later = statusOf(record, first.conditions!, { generation: 1, nowMs: T0 + 60_000 });
    expect(later.conditions).toEqual(first.conditions);
  });

  test("all of it fits the schema that the API server checks", () => {
    const published = { version: 1, digest: `sha256:${"d".repeat(64)}`, reference: "r@d" };
    for (const record of [pending(), training("Invited", "Lost"), { ...publishing(), published }]) {
      const status = federationRoundSchema.shape.status.parse(statusOf(record, [], at));
      expect(status.phase).toBe(record.phase);
    }
  });
});
