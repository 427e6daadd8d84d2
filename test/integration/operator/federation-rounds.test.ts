/**
 * Federations that run rounds, with the real operator: what follows what, when they stop, and what a manifest that is applied again gets.
 */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Federation } from "../../../operator/api/federation.ts";
import type { FederationRound } from "../../../operator/api/federation-round.ts";
import { ADAPTER_VERSIONS, EVENTS, FEDERATION_ROUNDS, FEDERATIONS } from "../../../operator/kube/resources.ts";
import { type Behaviour, trains } from "./player.ts";
import { TestWorld } from "./world.ts";

let world: TestWorld;
beforeEach(async () => {
  world = await TestWorld.make();
  await world.startOperator();
});
afterEach(() => world.stop());

const fails: Behaviour = async (player, assignment) => {
  await player.accept(assignment);
  await player.fail(assignment, "NonFinite", "delta has 3 non-finite values");
};

async function twoSites(behaviour: Behaviour = trains(0.25)) {
  await world.addPlayer("ann", behaviour);
  await world.addPlayer("ben", trains(0.75));
}

const ready = (federation?: Federation) => federation?.status.conditions?.find((c) => c.type === "Ready");
const summary = (round: FederationRound) => round.status.conditions?.find((c) => c.type === "Succeeded");
const at = (round: FederationRound, phase: string) =>
  Date.parse(round.status.phaseTimes!.find((entry) => entry.phase === phase)!.at);

/** The Federation once its Ready condition has this reason. */
function becomes(reason: string): Promise<Federation> {
  return world.until(async () => {
    const found = await world.get<Federation>("federations", "fed");
    return ready(found)?.reason === reason ? found : undefined;
  }, `Ready has the reason ${reason}`);
}

async function names(kind = FEDERATION_ROUNDS): Promise<string[]> {
  const { items } = await world.client.list(kind, { namespace: world.namespace });
  return items.map(({ metadata }) => metadata.name).sort();
}

const change = (spec: object) =>
  world.client.patchMerge(FEDERATIONS, { namespace: world.namespace, name: "fed" }, { spec });

async function remove(round: string) {
  await world.client.delete(FEDERATION_ROUNDS, { namespace: world.namespace, name: round });
  await world.until(async () => !(await world.round(round)), `${round} is gone`);
}

test("rounds follow at their interval, old ones go, and neither counts nor adapters go with them", async () => {
  await twoSites();
  await world.createFederation("fed");
  await world.createRound("by-hand", "fed");
  await world.ended("by-hand");
  await change({ rounds: { count: 3, interval: "2s", historyLimit: 2 } });
  const [first, second] = [await world.ended("fed-r1"), await world.ended("fed-r2")];
  expect(at(second, "Pending") - at(first, "Succeeded")).toBeGreaterThanOrEqual(2000);
  const federation = await becomes("RoundsDone");
  expect(federation.status.rounds).toEqual({ succeeded: 4, failed: 0, cancelled: 0 });
  await world.until(async () => (await names()).length === 3, "the first round is pruned");
  expect(await names()).toEqual(["by-hand", "fed-r2", "fed-r3"]);
  expect(await names(ADAPTER_VERSIONS)).toEqual(["fed-v0", "fed-v1", "fed-v2", "fed-v3", "fed-v4"]);
  expect((await world.get<Federation>("federations", "fed"))?.status.rounds?.succeeded).toBe(4);
});

test("a round made by hand under the name of the next one does not count, and does not run at the same time", async () => {
  await twoSites();
  await world.createRound("fed-r1", "fed");
  await world.createFederation("fed", { rounds: { count: 2 } });
  const rounds = await Promise.all(["fed-r1", "fed-r2", "fed-r3"].map((name) => world.ended(name)));
  expect(rounds.map(({ status }) => [status.phase, status.number])).toEqual([
    ["Succeeded", 1],
    ["Succeeded", 2],
    ["Succeeded", 3],
  ]);
  for (const [i, round] of rounds.slice(1).entries())
    expect(at(round, "Planning")).toBeGreaterThanOrEqual(at(rounds[i]!, "Succeeded"));
  await becomes("RoundsDone");
  expect(await names()).toEqual(["fed-r1", "fed-r2", "fed-r3"]);
});

test("a federation whose rounds only fail stops, says why, and goes on when it is changed", async () => {
  await twoSites(fails);
  await world.createFederation("fed", { rounds: { count: 9, maxFailures: 2 } });
  const federation = await becomes("RoundsFailing");
  expect(ready(federation)).toMatchObject({ status: "False" });
  expect(ready(federation)?.message).toMatch(
    /^2 rounds in a row have failed; mend the cause, .* last fed-r2 \(QuorumLost: .*delta has 3 non-finite values/,
  );
  const present = federation.status.conditions?.map(({ type }) => type);
  expect(present).toContain("Stalled");
  expect(federation.status.rounds).toEqual({ succeeded: 0, failed: 2, cancelled: 0 });
  expect(await names()).toEqual(["fed-r1", "fed-r2"]);
  await world.until(async () => {
    const { items } = await world.client.list(EVENTS, { namespace: world.namespace });
    return items.some((event) => event.regarding?.name === "fed" && event.reason === "RoundsFailing");
  }, "an event says so");

  await change({ rounds: { maxFailures: 1 } });
  await world.ended("fed-r3");
  await becomes("RoundsFailing");
  expect(await names()).toEqual(["fed-r1", "fed-r2", "fed-r3"]);
});

test("a federation stops when the loss of a round is low enough, and says what it was", async () => {
  // (1000 · 1 + 1000 · 1.5 + 3000 · 1) / 5000
  for (const [name, tokens, loss] of [
    ["ann", 1000, 1],
    ["ben", 1000, 1.5],
    ["cy", 3000, 1],
  ] as const)
    await world.addPlayer(name, trains(0.25, { loss: { tokens, lossTokens: tokens * loss } }));
  await world.createFederation("fed", {
    rounds: { count: 9, interval: "1s", stopWhen: { metric: "trainLoss", atMost: "1.05" } },
    participants: { selector: {}, minimum: 3 },
  });
  expect((await world.ended("fed-r1")).status.metrics).toEqual({ trainLoss: "1.1000", tokens: 5000 });
  await world.ended("fed-r2");
  await change({ rounds: { stopWhen: { atMost: "1.1" } } });
  const federation = await becomes("StopConditionMet");
  expect(ready(federation)).toMatchObject({ status: "True" });
  expect(ready(federation)?.message).toMatch(
    /^trainLoss is 1\.1000, at most 1\.1 was wanted; no round follows the \d created/,
  );
});

test("a suspended federation finishes what runs and starts nothing, not even what people apply", async () => {
  const trained = Promise.withResolvers<void>();
  await twoSites(trains(0.25, { until: trained.promise }));
  await world.createFederation("fed", { rounds: { count: 2 } });
  await world.until(async () => (await world.round("fed-r1"))?.status.phase === "Training", "fed-r1 trains");
  await change({ suspend: true });
  expect(ready(await becomes("Suspended"))?.message).toBe("spec.suspend: no round starts; fed-r1 runs to its end");
  trained.resolve();
  expect((await world.ended("fed-r1")).status.phase).toBe("Succeeded");

  await world.createRound("by-hand", "fed");
  await world.until(async () => {
    const round = await world.round("by-hand");
    return round && summary(round)?.reason === "Suspended";
  }, "by-hand waits");
  const federation = await becomes("Suspended");
  expect(federation.status.conditions?.map(({ type }) => type)).not.toContain("Stalled");
  expect(federation.status.conditions?.map(({ type }) => type)).not.toContain("Reconciling");
  expect(await names()).toEqual(["by-hand", "fed-r1"]);

  await change({ suspend: false });
  expect((await world.ended("by-hand")).status.phase).toBe("Succeeded");
  expect((await world.ended("fed-r2")).status.phase).toBe("Succeeded");
});

describe("a manifest that is kept in Git", () => {
  const apply = (steps: number) => world.createRound("in-git", "fed", { training: { steps } });

  test("gets its outcome back when it is applied again, and does not run twice, also after a restart", async () => {
    await twoSites();
    await world.createFederation("fed");
    await apply(3);
    const first = await world.ended("in-git");
    for (const restart of [false, true]) {
      await remove("in-git");
      if (restart) {
        await world.stopOperator();
        await world.startOperator();
      }
      await apply(3);
      const again = await world.ended("in-git");
      expect(again.status).toMatchObject({
        phase: "Succeeded",
        number: 1,
        contributions: "2/2",
        adapter: first.status.adapter,
        plan: first.status.plan,
      });
      expect(summary(again)?.message).toMatch(
        /^this name has run already, as round 1, and does not run twice; another name runs it again\. It ended so: version 1 /,
      );
      expect(again.metadata.finalizers).toBeUndefined();
    }
    expect(world.players[0]!.plans).toHaveLength(1);
    expect(await names(ADAPTER_VERSIONS)).toEqual(["fed-v0", "fed-v1"]);
    const counts = async () => (await world.get<Federation>("federations", "fed"))?.status.rounds;
    expect(await counts()).toEqual({ succeeded: 1, failed: 0, cancelled: 0 });

    await remove("in-git");
    await apply(4);
    expect((await world.ended("in-git")).status).toMatchObject({ phase: "Succeeded", number: 2 });
  });

  test("runs again when its Federation was created anew", async () => {
    await twoSites();
    await world.createFederation("fed");
    await apply(3);
    await world.ended("in-git");
    await world.client.delete(FEDERATIONS, { namespace: world.namespace, name: "fed" });
    await remove("in-git");
    await world.createFederation("fed");
    await apply(3);
    const round = await world.ended("in-git");
    expect(round.status).toMatchObject({ phase: "Succeeded", number: 2 });
    expect(summary(round)?.message).not.toMatch(/run already/);
  });

  test("runs if it was deleted before it had begun", async () => {
    const trained = Promise.withResolvers<void>();
    await twoSites(trains(0.25, { until: trained.promise }));
    await world.createFederation("fed");
    await world.createRound("first", "fed");
    await world.until(async () => (await world.round("first"))?.status.phase === "Training", "first trains");
    await apply(3);
    await world.until(async () => (await world.round("in-git"))?.status.phase === "Pending", "in-git waits");
    await remove("in-git");
    await apply(3);
    trained.resolve();
    expect((await world.ended("in-git")).status).toMatchObject({ phase: "Succeeded", number: 2 });
  });
});
