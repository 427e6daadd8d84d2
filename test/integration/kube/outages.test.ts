/** Client and cache on an API server that freezes, dies, forgets and cuts connections. A server of its own: it is broken on purpose. */

import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { rootCertificates } from "node:tls";
import { pino } from "pino";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { WatchCache } from "../../../operator/kube/cache.ts";
import { KubeClient } from "../../../operator/kube/client.ts";
import { fromKubeconfig, inCluster } from "../../../operator/kube/credentials.ts";
import type { KubeFault } from "../../../operator/kube/faults.ts";
import { CONFIG_MAPS, type ConfigMap } from "../../../operator/kube/resources.ts";
import { type ApiServer, startApiServer } from "../api-server.ts";
import { type Cable, layCable } from "./cable.ts";

const log = pino({ level: "silent" });
const timing = { firstBackoffMs: 50, maxBackoffMs: 500, silenceMs: 180_000 };
let server: ApiServer;
let cable: Cable;
let client: KubeClient;
let namespace: string;
let cache: WatchCache<ConfigMap>;
let changes: string[];

beforeAll(async () => {
  server = await startApiServer();
  cable = await layCable(server.url);
  const credentials = async () => ({
    ...(await fromKubeconfig(server.kubeconfig)()),
    server: cable.url,
  });
  client = new KubeClient({ credentials, fieldManager: "test" });
});

afterAll(async () => {
  client?.close();
  await cable?.close();
  await server?.stop();
});

beforeEach(async () => {
  namespace = await server.createNamespace("outage");
  await write("a", "1");
  startCache({});
  await cache.whenSynced();
});

afterEach(async () => {
  server.resume();
  await cache.stop();
});

function startCache(more: object): void {
  cache = new WatchCache({
    client,
    kind: CONFIG_MAPS,
    namespace,
    labelSelector: "cached",
    log,
    timing: { ...timing, ...more },
  });
  changes = [];
  cache.onChange((key, object) => changes.push(`${key.split("/")[1]}=${object?.data?.v ?? "gone"}`));
  cache.start();
}

const write = (name: string, v: string) =>
  server.client.apply(CONFIG_MAPS, { metadata: { namespace, name, labels: { cached: "" } }, data: { v } });
const within = { timeout: 20_000 };

test("a cut connection: the watch goes on where it was, without a list", async () => {
  await expect.poll(() => cache.counts.reconnect).toBe(1);
  cable.cut();
  await write("a", "2");
  await expect.poll(() => changes, within).toEqual(["a=1", "a=2"]);
  expect(cache.counts).toMatchObject({ relist: 1, missed: 0 });
  expect(cache.counts.reconnect).toBeGreaterThanOrEqual(2);
});

test("a network that is away for a while: nothing is lost, and deleted and created again is two things", async () => {
  await expect.poll(() => cache.counts.reconnect).toBe(1);
  cable.unplug();
  const { metadata } = (await server.client.get(CONFIG_MAPS, { namespace, name: "a" }))!;
  await server.client.delete(CONFIG_MAPS, metadata);
  await write("a", "new");
  await write("b", "1");
  cable.plugIn();
  await expect.poll(() => changes, within).toEqual(["a=1", "a=gone", "a=new", "b=1"]);
});

test("410 after the network was away and etcd was compacted: a new list tells the difference, and the deletion", async () => {
  await write("b", "1");
  await expect.poll(() => changes).toContain("b=1");
  cable.unplug();
  await server.client.delete(CONFIG_MAPS, { namespace, name: "b" });
  const { metadata } = (await server.client.get(CONFIG_MAPS, { namespace, name: "a" }))!;
  await server.client.delete(CONFIG_MAPS, metadata);
  await write("a", "again");
  await write("c", "1");
  await server.compact();
  // The server's own window of events outlives a compaction; after a restart it begins with the present.
  await server.restart();
  cable.plugIn();
  await expect.poll(() => cache.counts.gone, within).toBe(1);
  await expect
    .poll(
      () =>
        cache
          .list()
          .map((object) => `${object.metadata.name}=${object.data?.v}`)
          .sort(),
      within,
    )
    .toEqual(["a=again", "c=1"]);
  expect(changes.slice(0, 2)).toEqual(["a=1", "b=1"]);
  expect(changes.slice(2).sort()).toEqual(["a=again", "a=gone", "b=gone", "c=1"]);
  expect(changes.indexOf("a=gone")).toBeLessThan(changes.indexOf("a=again"));
});

test("a server that dies and comes back: the copy stays readable meanwhile and is right afterwards", async () => {
  await server.kill();
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(cache.synced()).toBe(true);
  expect(cache.get(`${namespace}/a`)?.data).toEqual({ v: "1" });
  const fault = await client.get(CONFIG_MAPS, { namespace, name: "a" }).catch((error: unknown) => error as KubeFault);
  expect(fault).toMatchObject({ code: "Unreachable" });
  await server.restart();
  await write("a", "2");
  await expect.poll(() => cache.get(`${namespace}/a`)?.data, within).toEqual({ v: "2" });
});

test("a frozen server: calls end in time, the silent watch is given up, and all is well afterwards", async () => {
  await cache.stop();
  startCache({ silenceMs: 700 });
  await cache.whenSynced();
  server.pause();
  const startedAt = performance.now();
  const fault = await client
    .get(CONFIG_MAPS, { namespace, name: "a" }, { timeoutMs: 500 })
    .catch((error: unknown) => error);
  expect(fault).toMatchObject({ code: "Timeout" });
  expect(performance.now() - startedAt).toBeLessThan(2_000);
  await expect.poll(() => cache.counts.silence, within).toBeGreaterThanOrEqual(1);
  server.resume();
  await write("a", "2");
  await expect.poll(() => cache.get(`${namespace}/a`)?.data, within).toEqual({ v: "2" });
});

describe("credentials of a pod", () => {
  const write = async (folder: string, files: Record<string, string>) => {
    for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text);
  };
  let folder: string;
  let pod: KubeClient;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "rondo-serviceaccount-"));
    const { hostname, port } = new URL(server.url);
    const environment = { KUBERNETES_SERVICE_HOST: hostname, KUBERNETES_SERVICE_PORT: port };
    pod = new KubeClient({ credentials: inCluster(environment, folder), fieldManager: "test" });
  });
  afterEach(async () => {
    pod.close();
    await rm(folder, { recursive: true });
  });
  const ask = () =>
    pod.get(CONFIG_MAPS, { namespace, name: "a" }).then(
      (object) => object?.data?.v,
      (fault: KubeFault) => fault.code,
    );

  test("a token that was replaced is read when the old one is refused", async () => {
    const ca = await readFile(join(server.dir, "certs/apiserver.crt"), "utf8");
    await write(folder, { token: "expired", "ca.crt": ca, namespace: "of-the-pod" });
    expect(await ask()).toBe("Unauthorized");
    await write(folder, { token: server.adminToken });
    expect(await ask()).toBe("1");
    expect(await pod.namespace()).toBe("of-the-pod");
  });

  test("a CA that was replaced is read when the handshake failed", async () => {
    await write(folder, { token: server.adminToken, "ca.crt": rootCertificates[0]! });
    expect(await ask()).toBe("Unreachable");
    await write(folder, { "ca.crt": await readFile(join(server.dir, "certs/apiserver.crt"), "utf8") });
    expect(await ask()).toBe("1");
  });
});
