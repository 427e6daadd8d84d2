/** What people stop: a round by spec.cancel, a federation by spec.suspend; and what they see meanwhile. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { FEDERATION_ROUNDS, FEDERATIONS } from "../../../operator/kube/resources.ts";
import { binaries, kubectl } from "../api/kubectl.ts";
import { sharedApiServer } from "../shared-api-server.ts";
import { trains } from "./player.ts";
import { TestWorld } from "./world.ts";

let world: TestWorld;
beforeEach(async () => {
  world = await TestWorld.make();
  await world.startOperator();
});
afterEach(() => world.stop());

const never = new Promise<never>(() => {});
const deadlines = { accept: "120s", training: "120s", aggregation: "120s" };

const reason = async (name: string, type: string) =>
  (await world.round(name))?.status.conditions?.find((c) => c.type === type)?.reason;
const patch = (kind: typeof FEDERATION_ROUNDS | typeof FEDERATIONS, name: string, spec: object) =>
  world.client.patchMerge(kind as typeof FEDERATIONS, { namespace: world.namespace, name }, { spec });

test("a round that is cancelled ends so, stops its sites, stays to be read, and lets the next one begin", async () => {
  const ann = await world.addPlayer("ann", trains(0.25, { until: never }));
  await world.addPlayer("ben", trains(0.75, { until: never }));
  await world.createFederation("fed", { deadlines });
  await world.createRound("one", "fed");
  await world.createRound("two", "fed");
  await world.until(async () => (await world.round("one"))?.status.counts?.Training === 2, "both train", 100_000);
  expect(await reason("two", "Reconciling")).toBe("EarlierRound");
  await patch(FEDERATION_ROUNDS, "one", { cancel: true });
  const round = await world.ended("one", 60_000);
  expect(round.status.phase).toBe("Cancelled");
  expect(round.status.conditions?.find((c) => c.type === "Stalled")).toMatchObject({
    status: "True",
    reason: "Cancelled",
    message: "the round was cancelled (spec.cancel) before it ended",
  });
  await world.until(async () => !(await world.round("one"))?.metadata.finalizers?.length, "its finalizer is gone");
  await world.until(async () => ann.cancellations.length > 0, "ann is told to stop");
  expect(ann.cancellations[0]).toMatchObject({ reason: "Cancelled" });
  await world.until(async () => (await world.round("two"))?.status.phase === "Training", "the next one begins", 60_000);
}, 180_000);

test("a suspended federation finishes what runs and begins nothing; resumed, it goes on", async () => {
  const go = Promise.withResolvers<void>();
  await world.addPlayer("ann", trains(0.25, { until: go.promise }));
  await world.addPlayer("ben", trains(0.75, { until: go.promise }));
  await world.createFederation("fed", { deadlines });
  await world.createRound("one", "fed");
  await world.until(async () => (await world.round("one"))?.status.counts?.Training === 2, "both train", 100_000);
  await patch(FEDERATIONS, "fed", { suspend: true });
  await world.createRound("two", "fed");
  await world.until(async () => (await reason("two", "Reconciling")) === "Suspended", "the second waits", 60_000);
  go.resolve();
  expect((await world.ended("one", 60_000)).status.phase).toBe("Succeeded");
  expect((await world.round("two"))?.status.phase).toBe("Pending");
  await patch(FEDERATIONS, "fed", { suspend: false });
  expect((await world.ended("two", 60_000)).status).toMatchObject({ phase: "Succeeded", number: 2 });
}, 240_000);

test("`kubectl get fr -w` reads like a story, and `kubectl wait` knows its end", async () => {
  const { kubeconfig } = await sharedApiServer();
  await world.addPlayer("ann", trains(0.25));
  await world.addPlayer("ben", trains(0.75));
  await world.createFederation("fed", { deadlines });
  const argv = ["--kubeconfig", kubeconfig, "-n", world.namespace, "get", "fr", "-w", "--no-headers"];
  const watch = spawn(join(binaries, "kubectl"), argv, { stdio: ["ignore", "pipe", "inherit"] });
  let printed = "";
  watch.stdout.on("data", (chunk: Buffer) => {
    printed += chunk;
  });
  await world.createRound("one", "fed");
  const options = ["-n", world.namespace, "wait", "fr/one", "--for=condition=Succeeded", "--timeout=100s"];
  expect(await kubectl(kubeconfig, options)).toMatchObject({ ok: true });
  await world.until(async () => /Succeeded/.test(printed), "the watch shows the end");
  watch.kill();
  await once(watch, "exit");
  const lines = printed
    .trim()
    .split("\n")
    .map((line) => line.trim().split(/\s+/));
  const phases = lines.map(([, , phase]) => phase!).filter((phase) => /^[A-Z]/.test(phase));
  const order = ["Pending", "Planning", "Training", "Aggregating", "Publishing", "Succeeded"];
  expect(phases.map((phase) => order.indexOf(phase))).toEqual(
    phases.map((phase) => order.indexOf(phase)).toSorted((a, b) => a - b),
  );
  expect(phases).toEqual(expect.arrayContaining(["Training", "Succeeded"]));
  expect(lines.at(-1)!.slice(0, 5)).toEqual(["one", "fed", "Succeeded", "2/2", "fed-v1"]);
  // A change that nobody can see is no line: at most one for each site and each phase, and one for the finalizer that goes.
  expect(lines.length).toBeLessThanOrEqual(2 + order.length + 2 * 5);
}, 180_000);
