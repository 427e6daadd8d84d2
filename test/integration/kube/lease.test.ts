/** Leases on a real API server; clocks are passed in where a test would otherwise wait for real expiry. */
import { pino } from "pino";
import { afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { KubeClient } from "../../../operator/kube/client.ts";
import { fromKubeconfig } from "../../../operator/kube/credentials.ts";
import { Lease, type LeaseOptions } from "../../../operator/kube/lease.ts";
import { LEASES } from "../../../operator/kube/resources.ts";
import { type SharedApiServer, sharedApiServer } from "../shared-api-server.ts";
import { layCable } from "./cable.ts";

const log = pino({ level: "silent" });
const timing = { leaseMs: 2_000, renewMs: 1_200, retryMs: 200 };
let server: SharedApiServer;
let namespace: string;
let lost: string[];
const candidates: Lease[] = [];

beforeAll(async () => {
  server = await sharedApiServer();
});

beforeEach(async () => {
  namespace = await server.createNamespace("lease");
  lost = [];
});

afterEach(async () => {
  await Promise.all(candidates.splice(0).map((lease) => lease.release()));
});

function candidate(identity: string, more: Partial<LeaseOptions> = {}): Lease {
  const { client } = server;
  const onLost = (why: string) => lost.push(`${identity}: ${why}`);
  const lease = new Lease({ client, namespace, name: "rondo-operator", identity, onLost, log, timing, ...more });
  candidates.push(lease);
  return lease;
}

const read = async () => (await server.client.get(LEASES, { namespace, name: "rondo-operator" }))!;
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

test("of several candidates one holds it, and keeps it while it renews", async () => {
  const all = ["a", "b", "c"].map((identity) => candidate(identity));
  const stop = new AbortController();
  const acquired = all.map((lease) => lease.acquire(stop.signal));
  await Promise.race(acquired);
  await pause(3_000);
  expect(all.filter((lease) => lease.held())).toHaveLength(1);
  expect(lost).toEqual([]);
  stop.abort();
  const results = await Promise.allSettled(acquired);
  expect(results.filter((result) => result.status === "fulfilled")).toHaveLength(1);
});

test("released, the next one has it at once, in a higher epoch", async () => {
  const [first, second] = [candidate("a"), candidate("b")];
  await first.acquire();
  const waiting = second.acquire();
  await pause(300);
  const startedAt = performance.now();
  await first.release();
  expect(first.held()).toBe(false);
  await waiting;
  expect(performance.now() - startedAt).toBeLessThan(1_900);
  expect(second.epoch).toBe(first.epoch + 1);
  expect((await read()).spec).toMatchObject({ holderIdentity: "b" });
});

test("a holder that vanished is waited for as long as its lease lasts, by the waiting one's own clock", async () => {
  await server.client.create(LEASES, {
    metadata: { namespace, name: "rondo-operator" },
    // In the past of every clock there is: only unchanged-for-long-enough counts.
    spec: {
      holderIdentity: "dead",
      leaseDurationSeconds: 2,
      renewTime: "2001-01-01T00:00:00.000000Z",
      leaseTransitions: 7,
    },
  });
  const startedAt = performance.now();
  const heir = candidate("b");
  await heir.acquire();
  expect(performance.now() - startedAt).toBeGreaterThanOrEqual(2_000);
  expect(heir.epoch).toBe(8);
});

test("the same pod started again does not wait for itself, has a higher epoch, and whatever is left of the first gives up", async () => {
  const before = candidate("pod-0/uid", { timing: { ...timing, leaseMs: 60_000 } });
  await before.acquire();
  const after = candidate("pod-0/uid");
  const startedAt = performance.now();
  await after.acquire();
  expect(performance.now() - startedAt).toBeLessThan(1_500);
  expect(after.epoch).toBe(before.epoch + 1);
  await expect.poll(() => lost).toEqual(["pod-0/uid: taken over by a newer process of this holder"]);
  expect([before.held(), after.held()]).toEqual([false, true]);
});

test("taken over by somebody else, it is lost at once", async () => {
  const lease = candidate("a");
  await lease.acquire();
  await server.client.patchMerge(LEASES, { namespace, name: "rondo-operator" }, { spec: { holderIdentity: "thief" } });
  await expect.poll(() => lost).toEqual(["a: taken over by another holder"]);
  expect(lease.held()).toBe(false);
  expect((await read()).spec?.holderIdentity).toBe("thief");
});

test("a process that slept too long does not hold it, even before it has noticed, and does not take it back", async () => {
  let sleptMs = 0;
  const lease = candidate("a", { now: () => performance.now() + sleptMs });
  await lease.acquire();
  expect(lease.held()).toBe(true);
  sleptMs = 5_000;
  expect(lease.held()).toBe(false);
  await expect.poll(() => lost).toEqual(["a: not renewed in time"]);
});

test("an API server out of reach loses it within the renew deadline", async () => {
  const cable = await layCable((await fromKubeconfig(server.kubeconfig)()).server);
  const credentials = async () => ({ ...(await fromKubeconfig(server.kubeconfig)()), server: cable.url });
  const client = new KubeClient({ credentials, fieldManager: "test" });
  const lease = candidate("a", { client });
  await lease.acquire();
  const startedAt = performance.now();
  cable.unplug();
  await expect.poll(() => lost, { timeout: 5_000 }).toEqual(["a: not renewed in time"]);
  expect(performance.now() - startedAt).toBeLessThan(timing.leaseMs);
  expect((await read()).spec?.holderIdentity).toBe("a");
  client.close();
  await cable.close();
});
