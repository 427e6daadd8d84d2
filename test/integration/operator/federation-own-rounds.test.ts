/**
 * The federation's hands on its rounds, with a real API server and a real journal: what a crash leaves between two of their steps, rounds that
 * people made under the same names, and a history that is too long. Beside them nothing runs: no round goes on by itself.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Federation, federationSchema } from "../../../operator/api/federation.ts";
import type { Context } from "../../../operator/controllers/context.ts";
import { createRound, pruneRounds, settleCreation } from "../../../operator/controllers/federation/own-rounds.ts";
import { Objects } from "../../../operator/controllers/objects.ts";
import { RoundDesk } from "../../../operator/controllers/round/desk.ts";
import { Tally } from "../../../operator/controllers/tally.ts";
import { openJournal } from "../../../operator/journal/open.ts";
import { WatchCache } from "../../../operator/kube/cache.ts";
import { controllerReference } from "../../../operator/kube/objects.ts";
import { ADAPTER_VERSIONS, FEDERATION_ROUNDS, FEDERATIONS, PARTICIPANTS } from "../../../operator/kube/resources.ts";
import { createLogger } from "../../../operator/telemetry/logger.ts";
import { type SharedApiServer, sharedApiServer } from "../shared-api-server.ts";
import { federationSpec } from "./world.ts";

const log = createLogger({ level: "fatal", name: "test" });

let server: SharedApiServer;
let namespace: string;
let folder: string;
let federation: Federation;
/** What one process of the operator has. */
let process: Awaited<ReturnType<typeof startProcess>>;
const stops: Array<() => Promise<unknown>> = [];

beforeAll(async () => {
  server = await sharedApiServer();
  folder = await mkdtemp(join(tmpdir(), "rondo-own-rounds-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));
beforeEach(async () => {
  namespace = await server.createNamespace("own");
  federation = await createFederation({ rounds: { count: 9, historyLimit: 2 } });
  process = await startProcess();
});
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

async function createFederation(over: Parameters<typeof federationSpec>[1]): Promise<Federation> {
  const spec = federationSpec("registry.example", over) as never;
  return federationSchema.parse(
    await server.client.create(FEDERATIONS, { metadata: { name: "fed", namespace }, spec }),
  );
}

/** On the volume of the one before. */
async function startProcess() {
  const { client } = server;
  const cache = (kind: typeof FEDERATIONS) => new WatchCache({ client, kind, namespace, log });
  const caches = {
    federations: cache(FEDERATIONS),
    rounds: cache(FEDERATION_ROUNDS),
    participants: cache(PARTICIPANTS),
    adapterVersions: cache(ADAPTER_VERSIONS),
  };
  for (const one of Object.values(caches)) one.start();
  const journal = await openJournal(join(folder, namespace));
  const stop = async () => {
    await Promise.all(Object.values(caches).map((one) => one.stop()));
    await journal.close();
  };
  stops.push(stop);
  await Promise.all(Object.values(caches).map((one) => one.whenSynced()));
  const objects = new Objects(namespace, caches);
  const tally = new Tally(journal, objects);
  await tally.load();
  const desk = new RoundDesk(journal, () => undefined);
  const events = { record: () => undefined };
  const context = { client, caches, objects, journal, tally, events } as unknown as Context;
  return { context, tally, desk, stop };
}

/** As if the machine had lost its power. */
async function restart() {
  stops.pop();
  await process.stop();
  process = await startProcess();
}

const own = () => [controllerReference({ ...federation, apiVersion: "rondo.dev/v1alpha1", kind: "Federation" })];

async function put(name: string, { byHand = false, phase = "" } = {}) {
  const metadata = { name, namespace, ...(!byHand && { ownerReferences: own() }) };
  await server.client.create(FEDERATION_ROUNDS, { metadata, spec: { federation: "fed" } });
  if (phase === "") return;
  const status = { observedGeneration: 1, phase };
  await server.client.applyStatus(FEDERATION_ROUNDS, { metadata: { name, namespace }, status });
}

async function names(): Promise<string[]> {
  const { items } = await server.client.list(FEDERATION_ROUNDS, { namespace });
  return items.map(({ metadata }) => metadata.name).sort();
}

const row = () => process.tally.creations(federation);

test("rounds are numbered one after the other, and belong to their Federation", async () => {
  expect(await createRound(process.context, federation)).toBe("fed-r1");
  expect(await createRound(process.context, federation)).toBe("fed-r2");
  expect(row()).toMatchObject({ created: 2, lastNumber: 2 });
  const round = await server.client.get(FEDERATION_ROUNDS, { namespace, name: "fed-r2" });
  expect(round?.metadata).toMatchObject({ labels: { "rondo.dev/federation": "fed" }, ownerReferences: own() });
});

describe("a crash", () => {
  test("before the round exists: it is created, and counted once", async () => {
    await process.tally.creating(federation, "fed-r1");
    await restart();
    await settleCreation(process.context, federation);
    expect(row()).toMatchObject({ created: 0, creating: "fed-r1" });
    expect(await createRound(process.context, federation)).toBe("fed-r1");
    expect(row()).toMatchObject({ created: 1 });
  });

  test("after it exists: it is found, and counted once", async () => {
    await process.tally.creating(federation, "fed-r1");
    await put("fed-r1");
    await restart();
    await settleCreation(process.context, federation);
    await settleCreation(process.context, federation);
    expect(row()).toMatchObject({ created: 1, lastNumber: 1 });
    expect(await createRound(process.context, federation)).toBe("fed-r2");
  });

  test("after it exists, with a cache that does not know it yet: the API server does", async () => {
    await process.tally.creating(federation, "fed-r1");
    await put("fed-r1");
    expect(await createRound(process.context, federation)).toBe("fed-r1");
    expect(row()).toMatchObject({ created: 1, lastNumber: 1 });
    expect(await names()).toEqual(["fed-r1"]);
  });

  test("before the round exists, and somebody else took its name: the next free number is taken", async () => {
    await process.tally.creating(federation, "fed-r1");
    await put("fed-r1", { byHand: true });
    await restart();
    await settleCreation(process.context, federation);
    expect(await createRound(process.context, federation)).toBe("fed-r2");
    expect(row()).toMatchObject({ created: 1, lastNumber: 2 });
  });
});

test("a round made by hand under the name of the next one is neither counted nor touched", async () => {
  await put("fed-r1", { byHand: true });
  await put("fed-r2", { byHand: true });
  expect(await createRound(process.context, federation)).toBe("fed-r3");
  expect(row()).toMatchObject({ created: 1, lastNumber: 3 });
  const byHand = await server.client.get(FEDERATION_ROUNDS, { namespace, name: "fed-r1" });
  expect(byHand?.metadata.ownerReferences).toBeUndefined();
});

describe("a history longer than the limit", () => {
  test("loses the oldest ended rounds that the federation created, and nothing else", async () => {
    for (const number of [1, 2, 9, 10, 11]) await put(`fed-r${number}`, { phase: "Succeeded" });
    await put("fed-r12", { phase: "Training" });
    await put("by-hand", { byHand: true, phase: "Succeeded" });
    await restart();
    expect(await pruneRounds(process.context, process.desk, federation)).toBe(false);
    expect(await names()).toEqual(["by-hand", "fed-r10", "fed-r11", "fed-r12"]);
  });

  test("is worked off in lots", async () => {
    for (let number = 1; number <= 14; number++) await put(`fed-r${number}`, { phase: "Failed" });
    await restart();
    expect(await pruneRounds(process.context, process.desk, federation)).toBe(true);
    expect(await names()).toEqual(["fed-r11", "fed-r12", "fed-r13", "fed-r14"]);
    await restart();
    expect(await pruneRounds(process.context, process.desk, federation)).toBe(false);
    expect(await names()).toEqual(["fed-r13", "fed-r14"]);
  });

  test("stays as it is when spec.rounds is gone: nobody says how long it may be", async () => {
    for (const number of [1, 2, 3]) await put(`fed-r${number}`, { phase: "Failed" });
    await restart();
    const { rounds: _gone, ...spec } = federation.spec;
    await pruneRounds(process.context, process.desk, { ...federation, spec });
    expect(await names()).toHaveLength(3);
  });
});
