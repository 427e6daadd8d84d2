import { mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { PublishFault } from "../publish/fault.ts";
import { OciRepository } from "../publish/oci.ts";
import { AdapterStore } from "./adapters.ts";

const dataDir = mkdtempSync(join(tmpdir(), "rondo-adapters-"));
afterAll(() => rmSync(dataDir, { recursive: true }));

test("a pull from a registry that does not answer ends with the operator, as what a later try may mend", async () => {
  const asked = Promise.withResolvers<void>();
  const silent = createServer(() => asked.resolve());
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  const registry = `127.0.0.1:${(silent.address() as AddressInfo).port}`;
  const store = new AdapterStore(dataDir);
  await store.open();
  const digest = `sha256:${"a".repeat(64)}`;
  const pull = store.ensure({ adapterDigest: digest, digest }, async (signal) => {
    return new OciRepository({ registry, repository: "adapters/x", plainHttp: true, signal });
  });
  const ended = pull.catch((error: unknown) => error);
  await asked.promise;
  await store.stop();
  expect(await ended).toMatchObject({ transient: true } satisfies Partial<PublishFault>);
  expect(await ended).toBeInstanceOf(PublishFault);
  expect(readdirSync(join(dataDir, "adapters"))).toEqual([]);
  silent.closeAllConnections();
  silent.close();
});

test("what a round that has ended began from and made goes at once, unless somebody wants it; of the rest only what is old", async () => {
  const store = new AdapterStore(dataDir);
  await store.open();
  const nowMs = Date.now();
  const kept = (name: string, minutesAgo: number) => {
    const digest = `sha256:${name}`;
    writeFileSync(store.path(digest), "");
    utimesSync(store.path(digest), nowMs / 1000 - 60 * minutesAgo, nowMs / 1000 - 60 * minutesAgo);
    return digest;
  };
  const [parent, candidate, active] = [kept("parent", 5), kept("candidate", 1), kept("active", 200)];
  kept("young", 50);
  kept("old", 70);
  await store.prune(new Set([active]), new Set([parent, candidate, active]), nowMs);
  expect(readdirSync(join(dataDir, "adapters")).sort()).toEqual(["active.safetensors", "young.safetensors"]);
});
