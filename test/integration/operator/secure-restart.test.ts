/** A secure round over the operator's death: it goes on from its journal and asks nobody for what it holds. */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openJournal } from "../../../operator/journal/open.ts";
import { type Question, type Site, trainsSecurely } from "./secure-player.ts";
import { INITIAL_VALUE, TestWorld } from "./world.ts";

let world: TestWorld;
beforeEach(() => begin());
afterEach(() => world.stop());

/** @param width  of the adapter's modules: 2^17 makes masked vectors of 8 MiB */
async function begin(width = 64): Promise<void> {
  world = await TestWorld.make({ width });
  await world.spawnOperator();
}

const SECURE = {
  aggregation: { privacy: "secure" as const, clipNorm: "8" },
  participants: { selector: { matchLabels: { team: "test" } }, minimum: 3 },
  // A step of sharing has 15 % of aggregation, and must outlast the restart of an operator on a machine that does other things.
  deadlines: { accept: "150s", training: "150s", aggregation: "150s" },
};

/** Gives the others the time to answer first, so that the step is half done. */
async function killAndRestart(): Promise<void> {
  await sleep(500);
  await world.killOperator();
  await world.spawnOperator();
}

/** ann 0.25, ben 0.5, cy 0.75, dee 1: their mean is 0.625. */
async function addSites(ofCy: Site): Promise<void> {
  for (const [at, name] of ["ann", "ben", "cy", "dee"].entries())
    await world.addPlayer(name, trainsSecurely(0.25 * (at + 1), name === "cy" ? ofCy : {}));
}

async function expectWholeMean(): Promise<void> {
  const version = await world.get<{ spec: { reference: string } }>("adapterversions", "fed-v1");
  for (const value of await world.valuesOf(version!.spec.reference))
    expect(value).toBeCloseTo(INITIAL_VALUE + 0.625, 4);
}

/** What only an open round may keep. */
async function leftInJournal(): Promise<string[]> {
  const journal = await openJournal(join(world.folder, "operator", "journal.sqlite"));
  const spaces = await Promise.all(["secagg", "plans", "round-keys"].map((space) => journal.entries(space)));
  await journal.close();
  return spaces.flat().map(({ key }) => key);
}

test.each<Question>(["plan", "keys", "shares", "consistency", "unmask"])(
  "an operator that is killed while the last answer to %s is out finishes the round with all contributions",
  async (question) => {
    let killed = false;
    const kill = async (at: Question) => {
      if (at !== question || killed) return;
      killed = true;
      await killAndRestart();
    };
    await addSites({ before: kill });
    await world.createFederation("fed", { ...SECURE, rounds: { count: 1 } });
    const round = await world.ended("fed-r1", 150_000);
    expect(killed).toBe(true);
    expect(round.status).toMatchObject({ phase: "Succeeded", number: 1, contributions: "4/4" });
    await expectWholeMean();
    for (const player of world.players) expect(player.askedAgain, player.name).toEqual([]);
    await world.stopOperator();
    expect(await leftInJournal()).toEqual([]);
  },
  200_000,
);

test("an operator that is killed in the middle of an upload takes the rest of the very same vector", async () => {
  await world.stop();
  await begin(2 ** 17);
  const moved = Promise.withResolvers<void>();
  await addSites({ onProgress: (bytes) => bytes > 2 ** 21 && moved.resolve() });
  const aggregation = { ...SECURE.aggregation, clipNorm: "8000" };
  await world.createFederation("fed", { ...SECURE, aggregation, rounds: { count: 1 } });
  await moved.promise;
  await world.killOperator();
  await world.spawnOperator();
  expect((await world.ended("fed-r1", 150_000)).status).toMatchObject({ phase: "Succeeded", contributions: "4/4" });
  await expectWholeMean();
}, 200_000);

test("an operator that is killed while the masks are removed removes them again", async () => {
  let killed = false;
  const kill = async () => {
    if (killed) return;
    killed = true;
    await world.killOperator();
    await world.spawnOperator();
  };
  await addSites({ after: (message) => (message.$case === "unmask" ? kill() : undefined) });
  await world.createFederation("fed", { ...SECURE, rounds: { count: 1 } });
  const round = await world.ended("fed-r1", 150_000);
  expect(killed).toBe(true);
  expect(round.status).toMatchObject({ phase: "Succeeded", contributions: "4/4" });
  await expectWholeMean();
}, 200_000);

test("an operator that is killed in the middle of a draw draws on", async () => {
  let killed = false;
  for (const name of ["ann", "ben", "cy", "dee", "eve", "fay", "gus"]) {
    const player = await world.addPlayer(name, trainsSecurely(0.5));
    player.onDraw = async ({ step }) => {
      if (name !== "ann" || step?.$case !== "commitments" || killed) return;
      killed = true;
      await killAndRestart();
    };
  }
  await world.createFederation("fed", { ...SECURE, aggregation: { ...SECURE.aggregation, cohortSize: 6 } });
  await world.createRound("one", "fed");
  const round = await world.ended("one", 150_000);
  expect(killed).toBe(true);
  expect(round.status).toMatchObject({ phase: "Succeeded", contributions: "7/7" });
}, 200_000);
