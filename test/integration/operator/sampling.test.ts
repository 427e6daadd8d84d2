/** A round that wants fewer than there are: some are drawn, and whoever is late among those invited beyond is left behind. */
import { afterEach, beforeEach, expect, test } from "vitest";
import type { FederationRound } from "../../../operator/api/federation-round.ts";
import { invitedBy } from "../../../operator/round/sampling.ts";
import { type Behaviour, trains } from "./player.ts";
import { trainsSecurely } from "./secure-player.ts";
import { INITIAL_VALUE, TestWorld } from "./world.ts";

let world: TestWorld;
beforeEach(async () => {
  world = await TestWorld.make();
  await world.startOperator();
});
afterEach(() => world.stop());

const never = new Promise<never>(() => {});
const deadlines = { accept: "120s", training: "120s", aggregation: "120s" };
const selector = { matchLabels: { team: "test" } };

const stragglers = (round: FederationRound) => (round.status.participants ?? []).filter((p) => p.state === "Excluded");

test("a round that wants two of four does not wait for the third that it has invited", async () => {
  let began = 0;
  /** The first two are quick, whoever they are; the third trains for ever. */
  const behaviour: Behaviour = (player, assignment) =>
    trains(0.25, ++began > 2 ? { until: never } : {})(player, assignment);
  for (const name of ["ann", "ben", "cy", "dee"]) await world.addPlayer(name, behaviour);
  const participants = { selector, minimum: 2, sample: { count: 2, overselect: 1 } };
  await world.createFederation("fed", { participants, deadlines, rounds: { count: 1 } });
  const round = await world.ended("fed-r1", 100_000);
  expect(round.status).toMatchObject({ phase: "Succeeded", contributions: "2/3", plan: { participants: 3 } });
  expect(stragglers(round)).toMatchObject([{ reason: "NotNeeded" }]);
  const invited = world.players.filter(({ plans }) => plans.length > 0);
  const { sample } = invited[0]!.plans[0]!.plan;
  expect(sample).toMatchObject({ count: 2, overselect: 1, candidates: ["ann", "ben", "cy", "dee"] });
  expect(invited.map(({ name }) => name)).toEqual(invitedBy(sample!));
  const late = world.players.find(({ name }) => name === stragglers(round)[0]!.name)!;
  await world.until(async () => late.cancellations.length > 0, "the straggler is told to stop");
  expect(late.cancellations[0]).toMatchObject({ reason: "NotNeeded" });
  const version = await world.get<{ spec: { reference: string } }>("adapterversions", "fed-v1");
  expect(await world.valuesOf(version!.spec.reference)).toEqual([INITIAL_VALUE + 0.25]);
}, 120_000);

test("a secure round closes its first step when as many as it wants have sent their keys", async () => {
  for (const name of ["ann", "ben", "cy", "dee"]) await world.addPlayer(name, trainsSecurely(0.5));
  await world.addPlayer("eve", trainsSecurely(7, { until: never }));
  const participants = { selector, minimum: 3, sample: { count: 4, overselect: 1 } };
  const aggregation = { privacy: "secure" as const, clipNorm: "8" };
  await world.createFederation("fed", { participants, aggregation, deadlines });
  await world.createRound("one", "fed");
  const round = await world.ended("one", 100_000);
  expect(round.status).toMatchObject({ phase: "Succeeded", attempt: 1, contributions: "4/5" });
  expect(stragglers(round)).toMatchObject([{ name: "eve", reason: "NotNeeded" }]);
  const version = await world.get<{ spec: { reference: string } }>("adapterversions", "fed-v1");
  for (const value of await world.valuesOf(version!.spec.reference)) expect(value).toBeCloseTo(INITIAL_VALUE + 0.5, 4);
}, 120_000);

test("settings that leave no plan end the round with what to change", async () => {
  for (const name of ["ann", "ben", "cy"]) await world.addPlayer(name, trains(0.25));
  // 34 % of three are two: what CEL could not see.
  const participants = { selector, minimum: 3, sample: { fraction: "0.34" } };
  await world.createFederation("fed", { participants, deadlines });
  await world.createRound("one", "fed");
  const round = await world.ended("one", 100_000);
  expect(round.status.phase).toBe("Failed");
  expect(round.status.conditions?.find((c) => c.type === "Succeeded")).toMatchObject({
    reason: "InvalidSettings",
    message: expect.stringMatching(/minimum must not be above participants.sample.count/),
  });
}, 120_000);
