import { describe, expect, test } from "vitest";
import { decide } from "./decide.ts";
import { applyCommitment, applyNonce, DRAW_STAGE_MS, GATHER_MS } from "./drawing.ts";
import type { RoundRecord } from "./record.ts";
import { SEVEN } from "./testing/cohorts.ts";
import { pending, T0, world } from "./testing/worlds.ts";
import type { PlanResult, World } from "./world.ts";

const planning: RoundRecord = { ...pending(), phase: "Planning", phaseTimes: [{ phase: "Planning", atMs: T0 }] };
const draw: PlanResult = { kind: "draw", number: 9, cohortSize: 6, members: SEVEN };
const at = (ms: number, over: Partial<World> = {}) =>
  world({ nowMs: T0 + ms, connected: new Set(SEVEN), plan: draw, ...over });

const commits = (record: RoundRecord, names = SEVEN, number = 1) =>
  names.reduce((now, name) => applyCommitment(now, name, { number, commitment: `c ${name}`, signature: "s" }), record);
const reveals = (record: RoundRecord, names = SEVEN, number = 1) =>
  names.reduce((now, name) => applyNonce(now, name, { number, nonce: `n ${name}` }), record);
const opened = () => decide(planning, at(0)).record;
const committed = () => decide(commits(opened()), at(1)).record;

describe("a draw of cohorts", () => {
  test("is opened when everybody is connected, with members and size fixed, under the round's own number", () => {
    const { record, actions } = decide(planning, at(0));
    expect(record).toMatchObject({ number: 9, draw: { number: 1, cohortSize: 6, stage: "commit" } });
    expect(record.draw!.members.map(({ name }) => name)).toEqual(SEVEN);
    expect(actions).toEqual([{ do: "announceDraw", participants: SEVEN }]);
  });

  test("waits ten seconds for those who connect just now, and then goes without", () => {
    const connected = new Set([...SEVEN.slice(1), "hal"]);
    const plan = { ...draw, members: [...SEVEN, "hal"] } as PlanResult;
    expect(decide(planning, at(0, { connected, plan }))).toMatchObject({
      record: planning,
      lookAgainAtMs: T0 + GATHER_MS,
    });
    const { record } = decide(planning, at(GATHER_MS, { connected, plan }));
    expect(record.draw!.members).toHaveLength(7);
    expect(record.draw!.leftOut).toMatchObject([{ name: "ann", reason: "NotConnected" }]);
  });

  test("of no more than one cohort is none: the plan is made at once", () => {
    const connected = new Set(SEVEN.slice(1));
    const { record, actions } = decide(planning, at(GATHER_MS, { connected }));
    expect(record.draw).toMatchObject({ stage: "drawn", leftOut: [{ name: "ann" }] });
    expect(actions).toEqual([{ do: "plan" }]);
  });

  test("shows commitments only when all are there, and asks for nonces then", () => {
    const { record } = decide(commits(opened(), SEVEN.slice(1)), at(1));
    expect(record.draw!.stage).toBe("commit");
    expect(committed().draw!.stage).toBe("reveal");
  });

  test("takes no nonce before the commitments are shown, none twice, and none of another draw", () => {
    expect(reveals(opened())).toEqual(opened());
    const revealed = reveals(committed(), ["ann"]);
    expect(applyNonce(revealed, "ann", { number: 1, nonce: "another" })).toBe(revealed);
    expect(reveals(committed(), SEVEN, 2)).toEqual(committed());
    expect(applyNonce(committed(), "mallory", { number: 1, nonce: "n" })).toEqual(committed());
  });

  test("with all nonces leads to the plan", () => {
    const { record, actions } = decide(reveals(committed()), at(2));
    expect(record.draw!.stage).toBe("drawn");
    expect(actions).toEqual([{ do: "plan" }]);
    // The old answer says nothing any more.
    expect(decide(record, at(3)).actions).toEqual([{ do: "plan" }]);
  });

  test("is repeated without whoever does not reveal, with new numbers from everybody", () => {
    const eight = { ...draw, members: [...SEVEN, "hal"] } as PlanResult;
    const connected = new Set([...SEVEN, "hal"]);
    const asked = decide(planning, at(0, { plan: eight, connected })).record;
    const shown = decide(commits(asked, [...SEVEN, "hal"]), at(0, { plan: eight, connected })).record;
    const { record, actions } = decide(reveals(shown), at(DRAW_STAGE_MS, { plan: eight, connected }));
    expect(record.draw).toMatchObject({ number: 2, stage: "commit", members: SEVEN.map((name) => ({ name })) });
    expect(record.draw!.members[0]).toEqual({ name: "ann" });
    expect(record.draw!.leftOut).toMatchObject([{ name: "hal", reason: "NotRevealed" }]);
    expect(actions).toEqual([{ do: "announceDraw", participants: SEVEN }]);
  });

  test("fails when too few are left, and says who did not answer", () => {
    const terms = { ...(world().federation as { terms: object }).terms, minimum: 7 } as never;
    const federation = { ...world().federation, terms } as World["federation"];
    const { record } = decide(commits(opened(), SEVEN.slice(1)), at(DRAW_STAGE_MS, { federation }));
    expect(record.outcome).toMatchObject({ reason: "DrawFailed" });
    expect(record.outcome!.message).toMatch(
      /^6 participants are left after the draw of cohorts, 7 are needed; ann Lost/,
    );
  });

  test("ends with the planning limit at the latest", () => {
    expect(decide(committed(), at(300_000)).record.outcome).toMatchObject({ reason: "PlanFailed" });
  });

  test("names those left out in the round that is planned", () => {
    const drawn = decide(planning, at(GATHER_MS, { connected: new Set(SEVEN.slice(1)) })).record;
    const roster = SEVEN.slice(1);
    const plan: PlanResult = {
      kind: "made",
      attempt: 1,
      number: 9,
      hash: "ab",
      parentVersion: 0,
      parentByteLength: 5,
      uploadLimitBytes: 100,
      roster,
      minimum: 3,
      aggregationMs: 1,
      deadlines: { acceptMs: 1, trainingMs: 1, shareMs: 1, maskMs: 1, consistencyMs: 1, aggregationMs: 1 },
      secure: { byteLength: 100, cohorts: [{ members: roster, threshold: 5 }] },
    };
    const { record } = decide(drawn, at(GATHER_MS, { plan }));
    expect(record.draw).toBeUndefined();
    expect(record.participants.at(-1)).toMatchObject({ name: "ann", state: "Lost", reason: "NotConnected" });
    expect(record.secure!.cohorts[0]).toMatchObject({ members: roster, step: "advertise" });
  });
});
