/** What every case must end in, and what it must not leave behind. */
import { copyFileSync, existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import type { AdapterVersion } from "../../../operator/api/adapter-version.ts";
import type { FederationRound } from "../../../operator/api/federation-round.ts";
import { JournalStore } from "../../../operator/journal/store.ts";
import type { RawObject, ResourceKind } from "../../../operator/kube/objects.ts";
import { ADAPTER_VERSIONS, JOBS, PODS, SECRETS } from "../../../operator/kube/resources.ts";
import { pullAdapter } from "../../../operator/publish/pull-adapter.ts";
import { openSafetensors } from "../../../operator/publish/safetensors.ts";
import { type FaultFederation, INITIAL_VALUE, repositoryOf, roundOf, SITES, STEPS } from "./federation.ts";
import type { Scenario } from "./scenarios.ts";

/** Spaces of the operator's journal that only an open round may have rows in. */
const OF_OPEN_ROUNDS = ["secagg", "plans", "round-keys", "round-numbers", "transport/uploads", "initialise"];
/** Secrets that are a program's own and for good: named after it, never after a federation. */
const OWN = /^rondo-/;
const ENDED = ["Succeeded", "Failed", "Cancelled"];

export async function hasEnded(federation: FaultFederation, name: string): Promise<boolean> {
  return ENDED.includes((await roundOf(federation, name))?.status?.phase ?? "");
}

/** The round of `name` has succeeded as if nobody had died: number 1, its contributors in the mean and nobody else, one version of it. */
export async function expectOutcome(
  federation: FaultFederation,
  name: string,
  { contributors, attempt, sites }: Scenario,
): Promise<void> {
  const { client, namespace } = federation;
  const { status } = (await roundOf(federation, name))!;
  const { phase, number, adapter } = status;
  const given = status.participants?.filter(({ state }) => state === "Contributed").map((p) => p.name);
  expect({ phase, number, attempt: status.attempt, given, adapter }, whyEnded(status)).toEqual({
    phase: "Succeeded",
    number: 1,
    attempt,
    given: contributors,
    adapter: { version: 1, name: `${name}-v1` },
  });
  const { items } = await client.list(ADAPTER_VERSIONS, { namespace });
  const versions = (items as unknown as AdapterVersion[]).filter(({ spec }) => spec.federation === name);
  expect(versions.map(({ spec }) => spec.version).sort()).toEqual([0, 1]);
  const made = versions.find(({ spec }) => spec.version === 1)!;
  const mean = contributors.reduce((sum, site) => sum + STEPS[site], 0) / contributors.length;
  for (const value of await valuesOf(federation, name, made.spec.digest))
    expect(value).toBeCloseTo(INITIAL_VALUE + mean, 5);
  for (const site of sites) {
    const { begun } = federation.trainers[site];
    for (const [job, times] of begun) expect(times, `trainings of ${job}`).toBe(1);
    begun.clear();
  }
}

function whyEnded({ conditions = [] }: FederationRound["status"]): string {
  return conditions.find(({ type }) => type === "Succeeded")?.message ?? "";
}

/** Every distinct value of a version that the registry holds. */
async function valuesOf(federation: FaultFederation, name: string, digest: string): Promise<number[]> {
  const folder = mkdtempSync(join(tmpdir(), "rondo-pulled-"));
  try {
    const pulled = await pullAdapter(repositoryOf(federation, name), digest, folder, 2 ** 20);
    await using file = await openSafetensors(pulled.weightsFile);
    const values = new Set<number>();
    for (const tensor of file.header.tensors)
      for await (const chunk of file.chunks(tensor)) for (const value of chunk.values) values.add(value);
    return [...values];
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** @returns what an ended round has left in clusters and on volumes, in words; empty: nothing */
export async function leftovers(federation: FaultFederation): Promise<string[]> {
  const { namespace: coordinator, programs, siteNamespaces } = federation;
  const left = (await namesInCluster(federation, coordinator)).map((name) => `operator: ${name}`);
  for (const site of SITES) {
    const namespace = siteNamespaces[site];
    left.push(...(await namesInCluster(federation, namespace)).map((name) => `${site}: ${name}`));
    left.push(...namesIn(join(programs[site].dataDir, "work")).map((name) => `${site}: work/${name}`));
    left.push(...openSessions(join(programs[site].dataDir, "ledger.db")).map((session) => `${site}: ${session}`));
  }
  const { dataDir } = programs.operator;
  left.push(...namesIn(join(dataDir, "spool")).map((name) => `operator: spool/${name}`));
  const halves = namesIn(join(dataDir, "adapters")).filter((name) => name.includes(".partial"));
  left.push(...halves.map((name) => `operator: adapters/${name}`));
  const rows = rowsOf(join(dataDir, "journal.sqlite"), OF_OPEN_ROUNDS);
  left.push(...rows.map(({ space, key }) => `operator: ${space} ${key}`));
  return left;
}

/** Of Jobs, their pods and Secrets. */
async function namesInCluster({ client }: FaultFederation, namespace: string): Promise<string[]> {
  const kinds: Array<ResourceKind<RawObject>> = [JOBS, PODS, SECRETS];
  const lists = await Promise.all(kinds.map((kind) => client.list(kind, { namespace })));
  return lists.flatMap(({ items }) => items.map(({ metadata }) => metadata.name)).filter((name) => !OWN.test(name));
}

/** Sessions of secure aggregation that hold secrets still. */
function openSessions(ledger: string): string[] {
  return rowsOf(ledger, ["session-secrets"]).map(({ key }) => `secrets of session ${key}`);
}

function namesIn(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}

/** From a copy: the process has the file to itself. */
function rowsOf(file: string, spaces: string[]): Array<{ space: string; key: string; value: Uint8Array }> {
  const folder = mkdtempSync(join(tmpdir(), "rondo-journal-"));
  try {
    const copy = join(folder, "journal.sqlite");
    copyFileSync(file, copy);
    if (existsSync(`${file}-wal`)) copyFileSync(`${file}-wal`, `${copy}-wal`);
    const store = new JournalStore(copy);
    const rows = spaces.flatMap((space) => store.entries(space, "").map((entry) => ({ space, ...entry })));
    store.close();
    return rows;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
