/** A cohort falls below its threshold although those who are left are enough: the round is planned again without those who are lost. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { FederationSpecInput } from "../../../operator/api/federation.ts";
import type { FederationRound } from "../../../operator/api/federation-round.ts";
import { openJournal } from "../../../operator/journal/open.ts";
import { EVENTS } from "../../../operator/kube/resources.ts";
import type { Plan } from "../../../operator/round/plan.ts";
import { type Question, type Site, trainsSecurely } from "./secure-player.ts";
import { INITIAL_VALUE, TestWorld } from "./world.ts";

let world: TestWorld;
beforeEach(async () => {
  world = await TestWorld.make();
});
afterEach(() => world.stop());

const SECURE = {
  aggregation: { privacy: "secure" as const, clipNorm: "8" },
  participants: { selector: { matchLabels: { team: "test" } }, minimum: 3 },
  // A step of sharing has 15 % of aggregation, and must outlast the restart of an operator on a machine that does other things.
  deadlines: { accept: "150s", training: "400s", aggregation: "150s" },
} satisfies Partial<FederationSpecInput>;

/** t = 4 of these five. What is left of them without cy and dee is exactly the minimum. */
const VALUES = { ann: 0.25, ben: 0.5, cy: 8, dee: 7, eve: 0.75 };
type Name = keyof typeof VALUES;
const LEAVE: Name[] = ["cy", "dee"];
/** Of ann, ben and eve. */
const MEAN = 0.5;

/** Those who stay do what `stays` says, in each attempt; cy and dee leave when they are asked. */
async function addSites(
  leaveAt: Question,
  stays: (plan: Plan) => Site = () => ({}),
  left: () => Promise<unknown> | undefined = () => undefined,
): Promise<void> {
  const leaves: Site = { abortsAt: leaveAt, left };
  for (const [name, value] of Object.entries(VALUES) as [Name, number][])
    await world.addPlayer(name, trainsSecurely(value, LEAVE.includes(name) ? leaves : stays));
}

async function expectMean(mean: number): Promise<void> {
  const version = await world.get<{ spec: { reference: string; contributors: number } }>("adapterversions", "fed-v1");
  for (const value of await world.valuesOf(version!.spec.reference)) expect(value).toBeCloseTo(INITIAL_VALUE + mean, 4);
}

const row = (round: FederationRound, name: string) => round.status.participants?.find((p) => p.name === name);
const summary = (round: FederationRound) => round.status.conditions?.find((c) => c.type === "Succeeded");

async function events(): Promise<string[]> {
  const { items } = await world.client.list(EVENTS, { namespace: world.namespace });
  return items.map((event) => `${event.reason}: ${event.note}`);
}

/** What only an open round may keep, in the journal and in the spool. */
async function left(): Promise<string[]> {
  await world.stopOperator();
  const journal = await openJournal(join(world.folder, "operator", "journal.sqlite"));
  const spaces = ["secagg", "plans", "round-keys", "transport/uploads"];
  const entries = await Promise.all(spaces.map((space) => journal.entries(space)));
  await journal.close();
  return [...entries.flat().map(({ key }) => key), ...(await readdir(join(world.folder, "operator", "spool")))];
}

test("members that leave before anybody has shared keys are removed, and it costs no retry", async () => {
  await world.startOperator();
  await addSites("plan");
  await world.createFederation("fed", { ...SECURE, retries: 0, rounds: { count: 1 } });
  const round = await world.ended("fed-r1", 150_000);
  expect(round.status).toMatchObject({
    phase: "Succeeded",
    attempt: 2,
    number: 1,
    contributions: "3/5",
    plan: { participants: 5, threshold: 3 },
  });
  expect(row(round, "cy")).toMatchObject({ state: "Failed", reason: "RosterDiffers" });
  await expectMean(MEAN);
  const [first, second] = world.players[0]!.plans.map(({ plan }) => plan);
  expect(second).toMatchObject({
    attempt: 2,
    round: first!.round,
    roster: first!.roster.filter(({ participant }) => !LEAVE.includes(participant as Name)),
    secure: { largestCohort: 3, cohorts: [{ members: ["ann", "ben", "eve"], threshold: 3 }] },
    deadlines: first!.deadlines,
    parent: first!.parent,
    tensors: first!.tensors,
    training: first!.training,
  });
  await world.until(
    async () => (await events()).some((text) => /^NewAttempt: attempt 2 without .*no retry/.test(text)),
    "an event tells of the attempt",
  );
  expect(await left()).toEqual([]);
}, 200_000);

test("members that leave after masks were made cost a retry; the others offer again what they have trained", async () => {
  await world.startOperator();
  await addSites("shares");
  await world.createFederation("fed", { ...SECURE, rounds: { count: 1 } });
  const round = await world.ended("fed-r1", 150_000);
  expect(round.status).toMatchObject({ phase: "Succeeded", attempt: 2, contributions: "3/5" });
  expect(summary(round)?.message).toMatch(/version 1 from 3 of 5/);
  await expectMean(MEAN);
  for (const { name, plans, cancellations } of world.players) {
    expect(plans, name).toHaveLength(LEAVE.includes(name as Name) ? 1 : 2);
    // Nobody who stays was told to stop.
    if (!LEAVE.includes(name as Name)) expect(cancellations, name).toEqual([]);
  }
  await world.until(
    async () => (await events()).some((text) => /^NewAttempt: attempt 2 without .*retry 1 of 1/.test(text)),
    "an event tells of the attempt",
  );
  expect(await left()).toEqual([]);
}, 200_000);

test("without a retry such a round fails, and says who left", async () => {
  await world.startOperator();
  await addSites("shares");
  await world.createFederation("fed", { ...SECURE, retries: 0 });
  await world.createRound("one", "fed");
  const round = await world.ended("one", 150_000);
  expect(round.status).toMatchObject({ phase: "Failed", attempt: 1 });
  expect(summary(round)).toMatchObject({ reason: "CohortTooSmall" });
  expect(summary(round)?.message).toMatch(/3 of 5 are left while masked vectors came in, 4 are needed; cy Failed/);
}, 200_000);

test("what was said of the attempt before is answered with that, and counts for nothing", async () => {
  await world.startOperator();
  const refused: unknown[] = [];
  let late: (() => Promise<unknown>) | undefined;
  const stays = ({ attempt }: Plan): Site => ({
    before: async (question) => {
      if (attempt === 2 && question === "keys") await late?.().catch((error: unknown) => refused.push(error));
    },
  });
  await addSites("shares", stays);
  const ann = world.players[0]!;
  late = () => ann.accept(ann.plans[0]!);
  await world.createFederation("fed", { ...SECURE, rounds: { count: 1 } });
  expect((await world.ended("fed-r1", 150_000)).status).toMatchObject({ phase: "Succeeded", attempt: 2 });
  expect(refused.length).toBeGreaterThan(0);
  for (const error of refused) expect(error).toMatchObject({ code: "AttemptEnded" });
  await expectMean(MEAN);
}, 200_000);

test("two cohorts keep their split: the one that lost members is planned again, and so is the other", async () => {
  await world.startOperator();
  const names = ["ann", "ben", "cy", "dee", "eve", "fay", "gus", "hal", "ida", "jo"];
  /** Two of the first cohort's five: the three that are left are below t = 4. */
  const leavers = ({ secure }: Plan) => secure!.cohorts[0]!.members.slice(0, 2);
  for (const name of names)
    await world.addPlayer(
      name,
      trainsSecurely(0.5, (plan) => (plan.attempt === 1 && leavers(plan).includes(name) ? { abortsAt: "shares" } : {})),
    );
  await world.createFederation("fed", {
    ...SECURE,
    aggregation: { ...SECURE.aggregation, cohortSize: 6 },
    participants: { ...SECURE.participants, minimum: 8 },
    rounds: { count: 1 },
  });
  const round = await world.ended("fed-r1", 150_000);
  expect(round.status).toMatchObject({ phase: "Succeeded", attempt: 2, contributions: "8/10" });
  const stayed = world.players.find(({ plans }) => plans.length === 2)!;
  const [first, second] = stayed.plans.map(({ plan }) => plan);
  const gone = leavers(first!);
  expect(second!.secure).toMatchObject({
    largestCohort: 5,
    draw: first!.secure!.draw,
    cohorts: [
      { members: first!.secure!.cohorts[0]!.members.filter((name) => !gone.includes(name)), threshold: 3 },
      first!.secure!.cohorts[1],
    ],
  });
  await expectMean(0.5);
}, 200_000);

test("an operator that is killed in the moment in which the next attempt is planned plans it again, once", async () => {
  await world.spawnOperator();
  let gone = 0;
  const left = async () => {
    if (++gone < LEAVE.length) return;
    await world.killOperator();
    await world.spawnOperator();
  };
  await addSites("shares", () => ({}), left);
  await world.createFederation("fed", { ...SECURE, rounds: { count: 1 } });
  const round = await world.ended("fed-r1", 150_000);
  expect(round.status).toMatchObject({ phase: "Succeeded", attempt: 2, number: 1, contributions: "3/5" });
  await expectMean(MEAN);
  for (const { name, plans } of world.players.filter((player) => !LEAVE.includes(player.name as Name)))
    expect(plans, name).toHaveLength(2);
}, 200_000);

test.each<{ says: string; at: Question }>([
  { says: "plan is accepted", at: "plan" },
  { says: "keys are shared", at: "keys" },
  { says: "vectors are masked", at: "shares" },
  { says: "survivors are confirmed", at: "consistency" },
  { says: "masks are removed", at: "unmask" },
])(
  "an operator that is killed while in the second attempt the $says finishes that attempt",
  async ({ at }) => {
    await world.spawnOperator();
    let killed = false;
    const stays = ({ attempt }: Plan): Site => ({
      before: async (question) => {
        if (attempt !== 2 || question !== at || killed) return;
        killed = true;
        await sleep(300);
        await world.killOperator();
        await world.spawnOperator();
      },
    });
    await addSites("shares", stays);
    await world.createFederation("fed", { ...SECURE, rounds: { count: 1 } });
    const round = await world.ended("fed-r1", 150_000);
    expect(killed).toBe(true);
    expect(round.status).toMatchObject({ phase: "Succeeded", attempt: 2, number: 1, contributions: "3/5" });
    await expectMean(MEAN);
    for (const player of world.players) expect(player.askedAgain, player.name).toEqual([]);
    expect(await left()).toEqual([]);
  },
  200_000,
);
