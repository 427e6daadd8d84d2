/** A registry that is down when the adapter is to be published, and pods that die in the middle of training. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { PODS } from "../../../operator/kube/resources.ts";
import { deletePod, isReady, killProcess } from "./crashes.ts";
import { FederationUnderTest } from "./federation.ts";
import { haveVersions, standardFederations } from "./federations.ts";
import { endOf, eventually, outcome, roundThat, sentence, startRound } from "./rounds.ts";
import type { Site } from "./site.ts";

let under: FederationUnderTest;
let north: Site;
let south: Site;

beforeAll(async () => {
  under = await FederationUnderTest.open();
  [north, south, ,] = under.sites as [Site, Site, Site, Site];
  await under.coordinator.apply(standardFederations());
  await haveVersions(under, ["small", "trusted"]);
});
afterAll(() => under?.close());

afterEach(() => {
  for (const site of under.sites) {
    site.letGo();
    site.behaveWell();
  }
});

describe("a registry that is down when the adapter is to be published", () => {
  afterAll(() => scaleRegistry(1));

  test("and stays so: the round fails by its deadline, and nothing is half-published", async () => {
    await scaleRegistry(0);
    await startRound(under, "unpublished", { federation: "trusted", deadlines: { aggregation: "8s" } });
    const ended = await roundThat(under, "unpublished", "Failed", ({ status }) => status.phase === "Failed");
    expect(outcome(ended)).toMatchObject({
      reason: "RegistryUnreachable",
      message: sentence(/^nothing was published before the aggregation deadline: /),
    });
    expect(ended.status.contributions).toBe("4/4");
  });

  test("and comes back: the round succeeds", async () => {
    await startRound(under, "late-published", { federation: "small" });
    await roundThat(under, "late-published", "Publishing", ({ status }) => status.phase === "Publishing");
    await scaleRegistry(1);
    expect(outcome(await endOf(under, "late-published"))).toMatchObject({ phase: "Succeeded" });
    await endOf(under, "unpublished"); // what it left can be looked at now
  });

  async function scaleRegistry(replicas: number): Promise<void> {
    await under.coordinator.run(["-n", "registry", "scale", "deployment/registry", `--replicas=${replicas}`]);
    await under.coordinator.run(["-n", "registry", "rollout", "status", "deployment/registry", "--timeout=2m"]);
    if (replicas === 0)
      await eventually(async () => expect((await under.kube.list(PODS, { namespace: "registry" })).items).toEqual([]));
  }
});

describe("pods that die", () => {
  test("operator and agents in the middle of training: everybody contributes, and nothing is trained twice", async () => {
    for (const site of under.sites) site.behave("wait");
    await startRound(under, "training", { federation: "small", deadlines: { accept: "3m", training: "4m" } });
    await roundThat(under, "training", "training everywhere", ({ status }) => status.counts?.Training === 4);
    await Promise.all([deletePod(under.kube, "operator"), deletePod(north.kube, "agent")]);
    killProcess("south", "agent");
    await Promise.all([isReady(under.kube, "operator"), isReady(north.kube, "agent"), isReady(south.kube, "agent")]);
    killProcess("coordinator", "operator");
    for (const site of under.sites) site.letGo();
    const ended = await endOf(under, "training");
    expect(outcome(ended)).toMatchObject({ phase: "Succeeded" });
    expect(ended.status.contributions).toBe("4/4");
    expect(under.sites.map((site) => site.starts("small", ended.status.number!))).toEqual([1, 1, 1, 1]);
  });
});
