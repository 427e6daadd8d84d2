import { afterEach, beforeEach, expect, test } from "vitest";
import type { FederationRound } from "../../../operator/api/federation-round.ts";
import type { Participant } from "../../../operator/api/participant.ts";
import { FEDERATION_ROUNDS, PARTICIPANTS } from "../../../operator/kube/resources.ts";
import { type Behaviour, trains } from "./player.ts";
import { INITIAL_VALUE, TestWorld } from "./world.ts";

let world: TestWorld;
beforeEach(async () => {
  world = await TestWorld.make();
  await world.startOperator();
});
afterEach(() => world.stop());

const summary = (round: FederationRound) => round.status.conditions?.find((c) => c.type === "Succeeded");
const row = (round: FederationRound, name: string) => round.status.participants?.find((p) => p.name === name);
const never = new Promise<never>(() => {});

test("a refusal does not stop a round that has enough others", async () => {
  const refuses: Behaviour = (player, assignment) =>
    player.refuse(assignment, "ImageNotAllowed", "policy: image trainer:test is not in the site's list");
  await world.addPlayer("ann", trains(0.25));
  await world.addPlayer("ben", refuses);
  await world.addPlayer("cy", trains(0.75, { weight: 85 }));
  await world.createFederation("fed", { rounds: { count: 1 } });
  const round = await world.ended("fed-r1");
  expect(round.status).toMatchObject({
    phase: "Succeeded",
    contributions: "2/3",
    counts: { Contributed: 2, Refused: 1 },
  });
  expect(round.status.participants?.[0]).toMatchObject({
    name: "ben",
    state: "Refused",
    reason: "ImageNotAllowed",
    message: "policy: image trainer:test is not in the site's list",
  });
  const version = await world.get<{ spec: { reference: string } }>("adapterversions", "fed-v1");
  // (255 · 0.25 + 85 · 0.75) / 340
  expect(await world.valuesOf(version!.spec.reference)).toEqual([INITIAL_VALUE + 0.375]);
});

test("a round that cannot reach its quorum any more fails at once, names who was lost, and tells the others to stop", async () => {
  const ann = await world.addPlayer("ann", trains(0.25, { until: never }));
  await world.addPlayer("ben", async (player, assignment) => {
    await player.accept(assignment);
    await player.fail(assignment, "NonFinite", "delta has 3 non-finite values in tensor lora_B");
  });
  await world.createFederation("fed", { rounds: { count: 1 } });
  const round = await world.ended("fed-r1");
  expect(round.status.phase).toBe("Failed");
  expect(summary(round)).toMatchObject({
    status: "False",
    reason: "QuorumLost",
    message: "1 of 2 can still contribute, 2 are needed; ben Failed (delta has 3 non-finite values in tensor lora_B)",
  });
  expect(round.status.conditions?.find((c) => c.type === "Stalled")?.status).toBe("True");
  await world.until(async () => ann.cancellations.length > 0, "ann is told to stop");
  expect(ann.cancellations[0]).toMatchObject({ reason: "QuorumLost", work: { participant: "ann", round: 1 } });
});

test("a contribution beyond the clip norm is excluded, and its site is named", async () => {
  await world.addPlayer("ann", trains(0.25));
  await world.addPlayer("ben", trains(0.75));
  await world.addPlayer("cy", trains(1e6));
  await world.createFederation("fed", { rounds: { count: 1 } });
  const round = await world.ended("fed-r1");
  expect(round.status).toMatchObject({ phase: "Succeeded", contributions: "2/3" });
  expect(row(round, "cy")).toMatchObject({ state: "Excluded", reason: "NotClipped" });
});

test("a round of an unknown federation fails within seconds", async () => {
  await world.createRound("lonely", "nobody");
  const round = await world.ended("lonely", 40_000);
  expect(summary(round)).toMatchObject({ reason: "FederationNotFound" });
  expect(summary(round)?.message).toMatch(/no Federation "nobody" in this namespace/);
});

test("a round that wants more participants than there are fails within seconds", async () => {
  await world.addPlayer("ann", trains(0.25));
  await world.createFederation("fed");
  await world.createRound("big", "fed", { participants: { minimum: 3 } });
  const round = await world.ended("big", 40_000);
  expect(summary(round)).toMatchObject({ reason: "TooFewParticipants" });
  expect(summary(round)?.message).toMatch(/minimum is 3, but 1 Participant can be invited/);
});

test("a site that does not answer is Lost at the accept deadline, one that cannot schedule Failed with its scheduler's words", async () => {
  await world.addPlayer("ann", trains(0.25));
  await world.addPlayer("ben", trains(0.75));
  await world.addPlayer("cy", () => never);
  await world.addPlayer("dee", async (player, assignment) => {
    await player.accept(assignment);
    await player.status(assignment, "Scheduling", {
      reason: "Unschedulable",
      message: "0/1 nodes are available: 1 Insufficient nvidia.com/gpu",
    });
  });
  await world.createFederation("fed", { deadlines: { accept: "5s", training: "50s", aggregation: "50s" } });
  await world.createRound("one", "fed");
  const round = await world.ended("one");
  expect(round.status).toMatchObject({ phase: "Succeeded", contributions: "2/4" });
  expect(row(round, "cy")).toMatchObject({ state: "Lost", reason: "NoAnswer" });
  expect(row(round, "dee")).toMatchObject({
    state: "Failed",
    reason: "Unschedulable",
    message: "0/1 nodes are available: 1 Insufficient nvidia.com/gpu",
  });
});

test("a registry that is down when the round publishes is waited for", async () => {
  const down = Promise.withResolvers<void>();
  await world.addPlayer("ann", trains(0.25, { until: down.promise }));
  await world.addPlayer("ben", trains(0.75, { until: down.promise }));
  await world.createFederation("fed", { rounds: { count: 1 } });
  await world.until(async () => (await world.round("fed-r1"))?.status.counts?.Training === 2, "both train");
  await world.registry.stop();
  down.resolve();
  await world.until(async () => (await world.round("fed-r1"))?.status.phase === "Publishing", "it publishes");
  await world.registry.start();
  expect((await world.ended("fed-r1")).status).toMatchObject({ phase: "Succeeded", adapter: { version: 1 } });
});

test("a registry that stays down fails the round by its deadline, and nothing is published", async () => {
  const down = Promise.withResolvers<void>();
  await world.addPlayer("ann", trains(0.25, { until: down.promise }));
  await world.addPlayer("ben", trains(0.75, { until: down.promise }));
  const deadlines = { accept: "50s", training: "50s", aggregation: "3s" };
  await world.createFederation("fed", { rounds: { count: 1 }, deadlines });
  await world.until(async () => (await world.round("fed-r1"))?.status.counts?.Training === 2, "both train");
  await world.registry.stop();
  down.resolve();
  const round = await world.ended("fed-r1");
  expect(summary(round)).toMatchObject({ status: "False", reason: "RegistryUnreachable" });
  expect(summary(round)?.message).toContain(world.registry.host);
  expect(await world.get("adapterversions", "fed-v1")).toBeUndefined();
  await world.registry.start();
  await expect(world.repository("adapters/test").pullManifest("v1")).rejects.toMatchObject({ code: "NotFound" });
});

test("deleting a round cancels it at its participants", async () => {
  const ann = await world.addPlayer("ann", trains(0.25, { until: never }));
  const ben = await world.addPlayer("ben", trains(0.75, { until: never }));
  await world.createFederation("fed");
  await world.createRound("one", "fed");
  await world.until(async () => (await world.round("one"))?.status.counts?.Training === 2, "both train");
  await world.client.delete(FEDERATION_ROUNDS, { namespace: world.namespace, name: "one" });
  await world.until(async () => !(await world.round("one")), "the object is gone");
  for (const player of [ann, ben]) {
    await world.until(async () => player.cancellations.length > 0, `${player.name} is told`);
    expect(player.cancellations[0]?.reason).toBe("Cancelled");
  }
});

test("a participant that is suspended is cut off at once and missed by its round", async () => {
  const done = Promise.withResolvers<void>();
  await world.addPlayer("ann", trains(0.25, { until: done.promise }));
  await world.addPlayer("ben", trains(0.75, { until: done.promise }));
  const cy = await world.addPlayer("cy", trains(0.5, { until: never }));
  await world.createFederation("fed", { rounds: { count: 1 } });
  await world.until(async () => (await world.round("fed-r1"))?.status.counts?.Training === 3, "all train");
  await world.client.patchMerge(
    PARTICIPANTS,
    { namespace: world.namespace, name: "cy" },
    { spec: { suspended: true } },
  );
  await world.until(async () => cy.disconnections.length > 0, "cy is cut off");
  done.resolve();
  const round = await world.ended("fed-r1");
  expect(round.status).toMatchObject({ phase: "Succeeded", contributions: "2/3" });
  expect(row(round, "cy")).toMatchObject({ state: "Lost", reason: "Revoked" });
  const participant = await world.get<Participant>("participants", "cy");
  expect(participant?.status).toMatchObject({ connected: false });
  expect(participant?.status.conditions?.find((c) => c.type === "Connected")?.reason).toBe("Suspended");
});
