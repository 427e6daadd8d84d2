/** What the operator's own surroundings do to it: a full volume, an API server that is away, a second operator. */
import { access } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, test } from "vitest";
import { EVENTS } from "../../../operator/kube/resources.ts";
import { type SmallDisk, smallDisk } from "../small-disk.ts";
import { trains } from "./player.ts";
import { trainsSecurely } from "./secure-player.ts";
import { INITIAL_VALUE, TestWorld } from "./world.ts";

let world: TestWorld;
let disk: SmallDisk | undefined;
afterEach(async () => {
  await disk?.empty();
  await world.stop();
  await disk?.unmount();
  disk = undefined;
});

const MIB = 2 ** 20;
const deadlines = { accept: "150s", training: "150s", aggregation: "150s" };
const SECURE = {
  aggregation: { privacy: "secure" as const, clipNorm: "8" },
  participants: { selector: { matchLabels: { team: "test" } }, minimum: 3 },
  deadlines,
};

async function valueOfFirst(): Promise<number> {
  const version = await world.get<{ spec: { reference: string } }>("adapterversions", "fed-v1");
  const values = await world.valuesOf(version!.spec.reference);
  return Math.max(...values);
}

const reconciling = async (name: string) =>
  (await world.round(name))?.status.conditions?.find((c) => c.type === "Reconciling");

async function eventReasons(): Promise<string[]> {
  const { items } = await world.client.list(EVENTS, { namespace: world.namespace });
  return items.map((event) => String(event.reason));
}

describe("a full volume", () => {
  /** The reserve is 64 MiB, and room is there again at 80. */
  const withDisk = async () => {
    disk = await smallDisk(120);
    world = await TestWorld.make({ dataDir: join(disk.folder, "data") });
  };

  test.each([
    { says: "for uploads", keptBytes: 20 * MIB },
    { says: "for the journal too", keptBytes: 0 },
  ])(
    "$says is told on the round with what to do, and the round goes on when there is room",
    async ({ keptBytes }) => {
      await withDisk();
      await world.startOperator();
      const go = Promise.withResolvers<void>();
      for (const [at, name] of ["ann", "ben", "cy"].entries())
        await world.addPlayer(name, trainsSecurely(0.25 * (at + 1), { until: go.promise }));
      await world.createFederation("fed", SECURE);
      await world.createRound("one", "fed");
      await world.until(async () => (await world.round("one"))?.status.counts?.Training === 3, "all train", 100_000);
      await disk!.fill(keptBytes);
      await world.until(async () => (await reconciling("one"))?.reason === "StorageFull", "the round says so", 60_000);
      expect((await reconciling("one"))?.message).toMatch(/80 MiB must be free; enlarge it or remove/);
      go.resolve();
      await sleep(3_000);
      expect((await world.round("one"))?.status.phase).not.toBe("Failed");
      await disk!.empty();
      expect((await world.ended("one", 100_000)).status).toMatchObject({ phase: "Succeeded", contributions: "3/3" });
      expect(await valueOfFirst()).toBeCloseTo(INITIAL_VALUE + 0.5, 4);
      await world.until(async () => (await eventReasons()).includes("StorageAvailable"), "the end is told too");
      expect((await eventReasons()).filter((reason) => reason === "StorageFull")).toHaveLength(1);
      for (const player of world.players) expect(player.errors, player.name).toEqual([]);
    },
    240_000,
  );

  test("waits with an operator that starts, which then finishes the round", async () => {
    await withDisk();
    await world.spawnOperator();
    const go = Promise.withResolvers<void>();
    await world.addPlayer("ann", trains(0.25, { until: go.promise }));
    await world.addPlayer("ben", trains(0.75, { until: go.promise }));
    await world.createFederation("fed", { deadlines });
    await world.createRound("one", "fed");
    await world.until(async () => (await world.round("one"))?.status.counts?.Training === 2, "both train", 100_000);
    await world.killOperator();
    await disk!.fill(0);
    const started = world.spawnOperator();
    await sleep(3_000);
    await disk!.empty();
    await started;
    go.resolve();
    expect((await world.ended("one", 100_000)).status).toMatchObject({ phase: "Succeeded", contributions: "2/2" });
    expect(await valueOfFirst()).toBe(INITIAL_VALUE + 0.5);
  }, 240_000);

  test("keeps a round that has not begun waiting, and no longer than that", async () => {
    await withDisk();
    await world.startOperator();
    await world.addPlayer("ann", trains(0.25));
    await world.addPlayer("ben", trains(0.75));
    await world.createFederation("fed", { deadlines });
    await world.until(async () => (await world.get("adapterversions", "fed-v0")) !== undefined, "version 0", 100_000);
    await disk!.fill(20 * MIB);
    await sleep(6_000);
    await world.createRound("one", "fed");
    await world.until(async () => (await reconciling("one"))?.reason === "StorageFull", "it waits", 60_000);
    expect((await world.round("one"))?.status.phase).toBe("Pending");
    await disk!.empty();
    expect((await world.ended("one", 100_000)).status).toMatchObject({ phase: "Succeeded" });
  }, 240_000);
});

describe("an API server that is away", () => {
  test.each([
    { says: "for less than a Lease lives costs nothing", awayMs: 4_000, mostRestarts: 1 },
    { says: "for longer ends the operator, which comes back to the round", awayMs: 20_000, mostRestarts: 3 },
  ])(
    "$says",
    async ({ awayMs, mostRestarts }) => {
      world = await TestWorld.make({ cable: true });
      await world.keepOperator();
      const away = Promise.withResolvers<void>();
      const back = Promise.withResolvers<void>();
      await world.addPlayer("ann", trains(0.25, { until: away.promise }));
      await world.addPlayer("ben", trains(0.75, { until: back.promise }));
      await world.createFederation("fed", { deadlines });
      await world.createRound("one", "fed");
      await world.until(async () => (await world.round("one"))?.status.counts?.Training === 2, "both train", 100_000);
      world.cable.unplug();
      away.resolve();
      await sleep(awayMs);
      world.cable.plugIn();
      back.resolve();
      expect((await world.ended("one", 100_000)).status).toMatchObject({
        phase: "Succeeded",
        number: 1,
        contributions: "2/2",
      });
      expect(await valueOfFirst()).toBe(INITIAL_VALUE + 0.5);
      expect(world.restarts).toBeLessThanOrEqual(mostRestarts);
    },
    240_000,
  );
});

test("of two operators the second does nothing until the first has let go", async () => {
  world = await TestWorld.make();
  await world.spawnOperator();
  const go = Promise.withResolvers<void>();
  await world.addPlayer("ann", trains(0.25, { until: go.promise }));
  await world.addPlayer("ben", trains(0.75, { until: go.promise }));
  await world.createFederation("fed", { deadlines });
  await world.createRound("one", "fed");
  await world.until(async () => (await world.round("one"))?.status.counts?.Training === 2, "both train", 100_000);
  const rival = await world.spawnRival();
  await sleep(5_000);
  go.resolve();
  expect((await world.ended("one", 100_000)).status).toMatchObject({ phase: "Succeeded", contributions: "2/2" });
  expect(await valueOfFirst()).toBe(INITIAL_VALUE + 0.5);
  expect(await Promise.race([rival.ready.then(() => "ready"), sleep(100, "waiting")])).toBe("waiting");
  // It has not so much as opened a journal.
  await expect(access(join(rival.dataDir, "journal.sqlite"))).rejects.toThrow("ENOENT");
  await world.stopOperator();
  await rival.ready;
  await rival.stop();
}, 240_000);
