import { afterEach, expect, test } from "vitest";
import { FEDERATION_ROUNDS } from "../../../operator/kube/resources.ts";
import { trains } from "./player.ts";
import { INITIAL_VALUE, TestWorld } from "./world.ts";

let world: TestWorld;
afterEach(() => world.stop());

async function publishedValues(): Promise<number[]> {
  const version = await world.get<{ spec: { reference: string } }>("adapterversions", "fed-v1");
  return world.valuesOf(version!.spec.reference);
}

test("an operator that is killed while sites train resumes the round; what was contributed before counts", async () => {
  world = await TestWorld.make();
  await world.spawnOperator();
  const back = Promise.withResolvers<void>();
  await world.addPlayer("ann", trains(0.25));
  await world.addPlayer("ben", trains(0.75, { until: back.promise }));
  await world.createFederation("fed", { rounds: { count: 1 } });
  await world.until(async () => {
    const { counts } = (await world.round("fed-r1"))?.status ?? {};
    return counts?.Contributed === 1 && counts.Training === 1;
  }, "ann has contributed and ben trains");
  await world.killOperator();
  await world.spawnOperator();
  back.resolve();
  const round = await world.ended("fed-r1");
  expect(round.status).toMatchObject({ phase: "Succeeded", number: 1, contributions: "2/2" });
  expect(await publishedValues()).toEqual([INITIAL_VALUE + 0.5]);
});

test("an operator that is killed in the middle of an upload takes the rest of it when it is back", async () => {
  world = await TestWorld.make({ width: 2 ** 20 });
  await world.spawnOperator();
  const moved = Promise.withResolvers<void>();
  await world.addPlayer("ann", trains(0.25));
  await world.addPlayer("ben", async (player, assignment) => {
    await player.accept(assignment);
    await player.contribute(assignment, 0.75, { onProgress: (bytes) => bytes > 2 ** 22 && moved.resolve() });
  });
  const deadlines = { accept: "60s", training: "60s", aggregation: "60s" };
  const aggregation = { privacy: "trusted" as const, clipNorm: "100000" };
  await world.createFederation("fed", { rounds: { count: 1 }, deadlines, aggregation });
  await moved.promise;
  await world.killOperator();
  await world.spawnOperator();
  const round = await world.ended("fed-r1", 60_000);
  expect(round.status).toMatchObject({ phase: "Succeeded", contributions: "2/2" });
  expect(await publishedValues()).toEqual([INITIAL_VALUE + 0.5]);
}, 120_000);

test("an operator that is stopped in order comes back to the same round", async () => {
  world = await TestWorld.make();
  await world.startOperator();
  const back = Promise.withResolvers<void>();
  await world.addPlayer("ann", trains(0.25, { until: back.promise }));
  await world.addPlayer("ben", trains(0.75, { until: back.promise }));
  await world.createFederation("fed", { rounds: { count: 1 } });
  await world.until(async () => (await world.round("fed-r1"))?.status.counts?.Training === 2, "both train");
  await world.stopOperator();
  await world.startOperator();
  back.resolve();
  expect((await world.ended("fed-r1")).status).toMatchObject({ phase: "Succeeded", number: 1, contributions: "2/2" });
});

test("an operator that is killed while it publishes goes on publishing the same version", async () => {
  world = await TestWorld.make();
  await world.spawnOperator();
  const down = Promise.withResolvers<void>();
  await world.addPlayer("ann", trains(0.25, { until: down.promise }));
  await world.addPlayer("ben", trains(0.75, { until: down.promise }));
  await world.createFederation("fed", { rounds: { count: 1 } });
  await world.until(async () => (await world.round("fed-r1"))?.status.counts?.Training === 2, "both train");
  await world.registry.stop();
  down.resolve();
  await world.until(async () => (await world.round("fed-r1"))?.status.phase === "Publishing", "it publishes");
  await world.killOperator();
  await world.registry.start();
  await world.spawnOperator();
  expect((await world.ended("fed-r1")).status).toMatchObject({ phase: "Succeeded", adapter: { version: 1 } });
  expect(await publishedValues()).toEqual([INITIAL_VALUE + 0.5]);
});

test("a round that is deleted while the operator is away is cancelled when it is back", async () => {
  world = await TestWorld.make();
  await world.spawnOperator();
  const never = new Promise<never>(() => {});
  const ann = await world.addPlayer("ann", trains(0.25, { until: never }));
  const ben = await world.addPlayer("ben", trains(0.75, { until: never }));
  await world.createFederation("fed");
  await world.createRound("one", "fed");
  await world.until(async () => (await world.round("one"))?.status.counts?.Training === 2, "both train");
  await world.killOperator();
  await world.client.delete(FEDERATION_ROUNDS, { namespace: world.namespace, name: "one" });
  expect(await world.round("one")).toBeDefined(); // the finalizer holds it
  await world.spawnOperator();
  await world.until(async () => !(await world.round("one")), "the object is gone");
  for (const player of [ann, ben])
    await world.until(async () => player.cancellations.length > 0, `${player.name} is told, now or when it comes back`);
});
