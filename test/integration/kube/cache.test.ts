/** A watch cache on a server that behaves; what it does on one that does not is in outages.test.ts. */
import { pino } from "pino";
import { Registry } from "prom-client";
import { afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { WatchCache } from "../../../operator/kube/cache.ts";
import { kubeMetrics } from "../../../operator/kube/metrics.ts";
import { CONFIG_MAPS, type ConfigMap } from "../../../operator/kube/resources.ts";
import { type SharedApiServer, sharedApiServer } from "../shared-api-server.ts";

const log = pino({ level: "silent" });
let server: SharedApiServer;
let namespace: string;
let cache: WatchCache<ConfigMap>;
let changes: string[];

beforeAll(async () => {
  server = await sharedApiServer();
});

beforeEach(async () => {
  namespace = await server.createNamespace("cache");
  const { client } = server;
  await write("before", "1");
  cache = new WatchCache({ client, kind: CONFIG_MAPS, namespace, labelSelector: "cached=yes", log });
  changes = [];
  cache.onChange((key, object) => changes.push(`${key.split("/")[1]}=${object?.data?.v ?? "gone"}`));
  cache.start();
  await cache.whenSynced();
});

afterEach(() => cache.stop());

const write = (name: string, v: string, labels: Record<string, string> = { cached: "yes" }) =>
  server.client.apply(CONFIG_MAPS, { metadata: { namespace, name, labels }, data: { v } });

test("it has what was there, and hears of what is created, changed and deleted, in that order", async () => {
  expect(cache.get({ namespace, name: "before" })?.data).toEqual({ v: "1" });
  const { metadata } = await write("a", "1");
  await write("a", "2");
  await server.client.delete(CONFIG_MAPS, metadata);
  await expect.poll(() => changes).toEqual(["before=1", "a=1", "a=2", "a=gone"]);
  expect(cache.list()).toHaveLength(1);
});

test("a change comes with what was there before it; an object made again under its name had nothing before", async () => {
  const changes: string[] = [];
  const value = (object?: { data?: { v?: string } }) => object?.data?.v ?? "nothing";
  cache.onChange((_, object, before) => changes.push(`${value(before)} → ${value(object)}`));
  const { metadata } = await write("a", "1");
  await write("a", "2");
  await server.client.delete(CONFIG_MAPS, metadata);
  await write("a", "3");
  const all = ["nothing → 1", "nothing → 1", "1 → 2", "2 → nothing", "nothing → 3"];
  await expect.poll(() => changes).toEqual(all);
});

test("objects come whole, but for managedFields", async () => {
  await write("a", "1");
  await expect
    .poll(() => cache.get(`${namespace}/a`))
    .toMatchObject({ apiVersion: "v1", kind: "ConfigMap", data: { v: "1" } });
  for (const object of cache.list()) expect(object.metadata).not.toHaveProperty("managedFields");
});

test("an object that loses the label is gone, and comes back with it", async () => {
  await write("before", "2", {});
  await expect.poll(() => changes).toEqual(["before=1", "before=gone"]);
  await write("before", "3");
  await expect.poll(() => changes.at(-1)).toBe("before=3");
});

test("a handler that comes late is told what is there; one that throws does not harm the others", async () => {
  const seen: string[] = [];
  cache.onChange(() => {
    throw new Error("broken handler");
  });
  cache.onChange(async () => {
    throw new Error("broken asynchronous handler");
  });
  const off = cache.onChange((key) => seen.push(key));
  expect(seen).toEqual([`${namespace}/before`]);
  await write("a", "1");
  await expect.poll(() => seen).toHaveLength(2);
  off();
  await write("b", "1");
  await expect.poll(() => changes.at(-1)).toBe("b=1");
  expect(seen).toHaveLength(2);
  await expect.poll(() => cache.counts.handlerFault).toBe(6);
});

test("what a write returned can be put in before the watch tells it, and is not told twice", async () => {
  cache.put(await write("a", "1"));
  expect(cache.get(`${namespace}/a`)?.data).toEqual({ v: "1" });
  await write("b", "1");
  await expect.poll(() => changes).toEqual(["before=1", "a=1", "b=1"]);
});

test("what a write returned before a deletion does not come back by being put in late", async () => {
  const written = await write("a", "1");
  await server.client.delete(CONFIG_MAPS, written.metadata);
  await expect.poll(() => changes.at(-1)).toBe("a=gone");
  cache.put(written);
  expect(cache.get(`${namespace}/a`)).toBeUndefined();
});

test("it lists now and then even when the watch is well, and watches on after the server ended the watch", async () => {
  const registry = new Registry();
  const timing = { watchSeconds: [1, 1] as [number, number], relistMs: 2_500 };
  const { client } = server;
  const restless = new WatchCache({
    client,
    kind: CONFIG_MAPS,
    namespace,
    log,
    timing,
    metrics: kubeMetrics(registry),
  });
  restless.start();
  await expect.poll(() => restless.counts.relist, { timeout: 15_000 }).toBeGreaterThanOrEqual(2);
  expect(restless.counts).toMatchObject({ missed: 0, gone: 0, silence: 0 });
  expect(restless.counts.reconnect).toBeGreaterThanOrEqual(3);
  expect(await registry.metrics()).toContain('rondo_kube_cache_events_total{kind="ConfigMap",event="relist"}');
  await restless.stop();
});
