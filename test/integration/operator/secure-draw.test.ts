/** More participants than one cohort takes: they are split by a draw that each of them can check. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { drawComplaint } from "../../../operator/secagg/draw.ts";
import { trainsSecurely } from "./secure-player.ts";
import { INITIAL_VALUE, TestWorld } from "./world.ts";

let world: TestWorld;
beforeEach(async () => {
  world = await TestWorld.make();
  await world.startOperator();
});
afterEach(() => world.stop());

const SECURE = {
  aggregation: { privacy: "secure" as const, clipNorm: "8", cohortSize: 6 },
  participants: { selector: { matchLabels: { team: "test" } }, minimum: 3 },
};
const NAMES = ["ann", "ben", "cy", "dee", "eve", "fay", "gus"];

async function meanPublished(): Promise<number> {
  const version = await world.get<{ spec: { reference: string } }>("adapterversions", "fed-v1");
  const values = await world.valuesOf(version!.spec.reference);
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length - INITIAL_VALUE;
  for (const value of values) expect(value - INITIAL_VALUE).toBeCloseTo(mean, 5);
  return mean;
}

test("seven are drawn into two cohorts, everybody finds the draw right, and the sums of both are one mean", async () => {
  for (const [at, name] of NAMES.entries()) await world.addPlayer(name, trainsSecurely(0.1 * (at + 1)));
  await world.createFederation("fed", SECURE);
  await world.createRound("one", "fed");
  const round = await world.ended("one");
  expect(round.status).toMatchObject({ phase: "Succeeded", contributions: "7/7", plan: { threshold: 3 } });
  expect(await meanPublished()).toBeCloseTo(0.4, 5);
  for (const player of world.players) {
    const { plan } = player.plans[0]!;
    expect(plan.secure!.cohorts.map(({ members }) => members.length)).toEqual([4, 3]);
    const identities = new Map(plan.roster.map((entry) => [entry.participant, Buffer.from(entry.identity, "base64")]));
    const drawOf = (number: number) => {
      const nonce = player.nonceOf(plan.round, number);
      const shown = plan.secure!.draw!.nonces.map(({ participant, commitment }) => ({
        participant,
        commitment: new Uint8Array(Buffer.from(commitment, "base64")),
      }));
      return nonce && { nonce, cohortSize: 6, shown };
    };
    expect(
      drawComplaint(plan, (name) => new Uint8Array(identities.get(name)!), { participant: player.name, drawOf }),
    ).toBeUndefined();
  }
});

test("whoever does not reveal is left out by name, and the others are drawn anew", async () => {
  for (const name of [...NAMES, "hal"]) await world.addPlayer(name, trainsSecurely(0.5));
  world.players.at(-1)!.draws = "neverReveals";
  await world.createFederation("fed", SECURE);
  await world.createRound("one", "fed");
  const round = await world.ended("one");
  expect(round.status).toMatchObject({ phase: "Succeeded", contributions: "7/8" });
  expect(round.status.participants?.[0]).toMatchObject({ name: "hal", state: "Lost", reason: "NotRevealed" });
  expect(world.players[0]!.plans[0]!.plan.secure!.draw).toMatchObject({ number: 2 });
  expect(world.players.at(-1)!.plans).toEqual([]);
  expect(await meanPublished()).toBeCloseTo(0.5, 5);
});

test("a cohort of which too few are left takes its own members along, and the other one's sum is published", async () => {
  const cohortOf = (plan: (typeof world.players)[number]["plans"][number]["plan"], name: string) =>
    plan.secure!.cohorts.findIndex(({ members }) => members.includes(name));
  for (const [at, name] of NAMES.entries())
    await world.addPlayer(name, async (player, assignment) => {
      // Of three members all are needed: one that leaves is enough.
      const leaves = assignment.plan.secure!.cohorts[1]!.members[0] === name;
      await trainsSecurely(at, leaves ? { abortsAt: "shares" } : {})(player, assignment);
    });
  await world.createFederation("fed", SECURE);
  await world.createRound("one", "fed");
  const round = await world.ended("one");
  const { plan } = world.players[0]!.plans[0]!;
  const kept = NAMES.filter((name) => cohortOf(plan, name) === 0);
  expect(round.status).toMatchObject({ phase: "Succeeded", contributions: "4/7", counts: { Excluded: 2, Failed: 1 } });
  const excluded = round.status.participants!.filter(({ state }) => state === "Excluded");
  for (const row of excluded)
    expect(row).toMatchObject({ reason: "CohortTooSmall", message: expect.stringMatching(/^cohort 1 ended: 2 of 3/) });
  expect(await meanPublished()).toBeCloseTo(kept.reduce((sum, name) => sum + NAMES.indexOf(name), 0) / 4, 5);
});
