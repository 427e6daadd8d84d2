import { afterEach, beforeEach, expect, test } from "vitest";
import type { AdapterVersion } from "../../../operator/api/adapter-version.ts";
import type { Federation } from "../../../operator/api/federation.ts";
import { EVENTS } from "../../../operator/kube/resources.ts";
import { trains } from "./player.ts";
import { INITIAL_VALUE, TestWorld } from "./world.ts";

let world: TestWorld;
beforeEach(async () => {
  world = await TestWorld.make();
});
afterEach(() => world.stop());

test("a federation runs its rounds one after the other, each from the version before", async () => {
  await world.startOperator();
  await world.addPlayer("ann", trains(0.25));
  await world.addPlayer("ben", trains(0.75));
  await world.createFederation("fed", { rounds: { count: 2 } });
  const first = await world.ended("fed-r1");
  expect(first.status.conditions?.find((c) => c.type === "Succeeded")?.message).toMatch(/version 1 from 2 of 2/);
  expect(first.status).toMatchObject({
    phase: "Succeeded",
    number: 1,
    contributions: "2/2",
    counts: { Contributed: 2 },
    adapter: { version: 1, name: "fed-v1" },
    plan: { parentVersion: 0, participants: 2 },
  });
  const second = await world.ended("fed-r2");
  expect(second.status).toMatchObject({ phase: "Succeeded", number: 2, plan: { parentVersion: 1 } });

  const v1 = await world.get<AdapterVersion>("adapterversions", "fed-v1");
  expect(await world.valuesOf(v1!.spec.reference)).toEqual([INITIAL_VALUE + 0.5]);
  const v2 = await world.get<AdapterVersion>("adapterversions", "fed-v2");
  expect(await world.valuesOf(v2!.spec.reference)).toEqual([INITIAL_VALUE + 1]);
  expect(v2!.spec).toMatchObject({ parent: 1, round: "fed-r2", contributors: 2 });
  const federation = await world.until(async () => {
    const found = await world.get<Federation>("federations", "fed");
    return found?.status.rounds?.succeeded === 2 && !found.status.rounds.current ? found : undefined;
  }, "the federation counts two rounds");
  expect(federation.status.activeAdapter).toMatchObject({ version: 2, name: "fed-v2", digest: v2!.spec.digest });
  expect(federation.status.conditions?.find((c) => c.type === "Ready")).toMatchObject({
    status: "True",
    reason: "RoundsDone",
  });
  await world.until(
    async () => (await world.get<AdapterVersion>("adapterversions", "fed-v1"))?.status?.phase === "Superseded",
    "version 1 is superseded",
  );
  expect((await world.get<AdapterVersion>("adapterversions", "fed-v2"))?.status?.phase).toBe("Active");
});

test("metrics and events tell of the round, and no metric of a participant", async () => {
  await world.startOperator();
  await world.addPlayer("ann", trains(0.25));
  await world.addPlayer("ben", trains(0.75));
  await world.createFederation("fed", { rounds: { count: 1 } });
  await world.ended("fed-r1");
  const metrics = await world.until(async () => {
    const text = await (await fetch(`${world.metricsUrl}/metrics`)).text();
    return text.includes('rondo_rounds_total{phase="Succeeded",reason="Published"} 1') ? text : undefined;
  }, "the round is counted");
  expect(metrics).toMatch(/rondo_contributions_total\{result="received"\} 2/);
  expect(metrics).toMatch(/rondo_agents_connected 2/);
  expect(metrics).toMatch(/rondo_rounds_open 0/);
  expect(metrics).not.toMatch(/"(ann|ben)"/);
  for (const path of ["healthz", "readyz"]) expect((await fetch(`${world.metricsUrl}/${path}`)).status).toBe(200);
  await world.until(async () => {
    const { items } = await world.client.list(EVENTS, { namespace: world.namespace });
    const reasons = items.filter((event) => event.regarding?.name === "fed-r1").map((event) => event.reason);
    return ["Training", "Publishing", "Succeeded"].every((reason) => reasons.includes(reason));
  }, "events of the round");
});

test("rounds that people create wait for each other, and may override what the Federation says", async () => {
  await world.startOperator();
  await world.addPlayer("ann", trains(0.25));
  await world.addPlayer("ben", trains(0.75));
  await world.createFederation("fed");
  await world.createRound("one", "fed");
  await world.createRound("two", "fed", { training: { steps: 7 }, participants: { minimum: 1 } });
  const [one, two] = await Promise.all([world.ended("one"), world.ended("two")]);
  expect(one.status).toMatchObject({ phase: "Succeeded", number: 1, plan: { parentVersion: 0 } });
  expect(two.status).toMatchObject({ phase: "Succeeded", number: 2, plan: { parentVersion: 1 } });
  const at = (round: typeof one, phase: string) => round.status.phaseTimes!.find((entry) => entry.phase === phase)!.at;
  expect(at(two, "Planning") >= at(one, "Succeeded")).toBe(true);
  expect(world.players[0]!.plans.map(({ plan }) => [plan.training.steps, plan.minimum])).toEqual([
    [2, 2],
    [7, 1],
  ]);
});
