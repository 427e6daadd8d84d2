/**
 * An operator and five sites (installation.ts) with a registry and trainers. Each case is a federation of its own with one round: what was the
 * same in all cases would hide what a case has left behind.
 */
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { FederationSpecInput } from "../../../operator/api/federation.ts";
import type { FederationRound } from "../../../operator/api/federation-round.ts";
import type { KubeClient } from "../../../operator/kube/client.ts";
import { ADAPTER_VERSIONS, FEDERATION_ROUNDS, FEDERATIONS, PARTICIPANTS } from "../../../operator/kube/resources.ts";
import { OciRepository } from "../../../operator/publish/oci.ts";
import { formatAdapterConfig } from "../../../operator/publish/peft.ts";
import { pushAdapter } from "../../../operator/publish/push-adapter.ts";
import { writeSafetensors } from "../../../operator/publish/safetensors.ts";
import { type Registry, startRegistry } from "../registry.ts";
import { sharedApiServer } from "../shared-api-server.ts";
import { buildInto, isConnected, type Place, prepareOperator, prepareSite, until } from "./installation.ts";
import type { Program } from "./program.ts";
import type { Scenario } from "./scenarios.ts";
import { moved, Trainers } from "./trainers.ts";

export const BASE_MODEL = { name: "test/llama", revision: "main", digest: `sha256:${"0".repeat(64)}` };
const RANK = 4;
const WIDTH = 64;
const MODULES = ["q_proj", "v_proj"];
/** Every value of the adapter that federations here start from. */
export const INITIAL_VALUE = 0.5;
/** What each site adds to every value: whose are in the mean is seen in the sum. */
export const STEPS = { "site-1": 0.25, "site-2": 0.5, "site-3": 1, "site-4": 2, "site-5": 4 };
export type SiteName = keyof typeof STEPS;
export const SITES = Object.keys(STEPS) as SiteName[];
export type ProgramName = "operator" | SiteName;

export interface FaultFederation extends AsyncDisposable {
  readonly client: KubeClient;
  readonly namespace: string;
  readonly registry: Registry;
  readonly folder: string;
  readonly programs: Readonly<Record<ProgramName, Program>>;
  readonly trainers: Readonly<Record<SiteName, Trainers>>;
  readonly siteNamespaces: Readonly<Record<SiteName, string>>;
}

/** @param folder  logs and volumes; the caller removes it */
export async function startFederation(folder: string): Promise<FaultFederation> {
  const build = buildInto(folder);
  const undo = new AsyncDisposableStack();
  try {
    const api = await sharedApiServer();
    const registry = undo.use(await startRegistry());
    const initial = await pushInitial(registry, folder);
    const namespace = await api.createNamespace("coordinator");
    const place: Place = { api, folder, build, namespace, undo };
    const operator = await prepareOperator(place);
    await operator.program.start();
    const { client } = api;
    const makers = new Trainers({ client, namespace, ...operator.tasks, kind: "initialise", train: () => initial });
    undo.defer(() => makers.stop());
    await makers.start();
    const started = await Promise.all(SITES.map((site) => startSite(place, site)));
    const bySite = <T>(of: (site: (typeof started)[number]) => T) =>
      Object.fromEntries(started.map((site) => [site.name, of(site)])) as Record<SiteName, T>;
    const dispose = undo.move();
    return {
      client: api.client,
      namespace,
      registry,
      folder,
      programs: { operator: operator.program, ...bySite(({ agent }) => agent) },
      trainers: bySite(({ trainers }) => trainers),
      siteNamespaces: bySite((site) => site.namespace),
      [Symbol.asyncDispose]: () => dispose.disposeAsync(),
    };
  } catch (error) {
    await undo.disposeAsync();
    throw error;
  }
}

async function startSite(place: Place, name: SiteName) {
  const { client } = place.api;
  const { agent, namespace, tasks } = await prepareSite(place, name);
  await agent.start();
  const trainers = new Trainers({
    ...{ client, namespace, ...tasks },
    kind: "train",
    train: (adapter) => moved(adapter, STEPS[name]),
  });
  place.undo.defer(() => trainers.stop());
  await trainers.start();
  await until(`${name} is connected`, 30_000, () => isConnected({ client, namespace: place.namespace }, name));
  return { name, namespace, agent, trainers };
}

export async function setSuspended(
  { client, namespace }: FaultFederation,
  name: SiteName,
  suspended: boolean,
): Promise<void> {
  await client.patchMerge(PARTICIPANTS, { namespace, name }, { spec: { suspended } });
}

/** One round of these sites, which the federation makes itself. */
export async function createFederation(
  { client, namespace, registry }: FaultFederation,
  name: string,
  { sites, privacy, initialise }: Pick<Scenario, "sites" | "privacy" | "initialise">,
): Promise<void> {
  const spec: FederationSpecInput = {
    baseModel: BASE_MODEL,
    adapter: {
      rank: RANK,
      alpha: 2 * RANK,
      targetModules: MODULES,
      ...(!initialise && { initialFrom: { reference: `${registry.host}/start/adapter:v3` } }),
    },
    training: { image: "trainer:test", steps: 1, resources: { gpus: 0 } },
    participants: { selector: { matchExpressions: [{ key: "site", operator: "In", values: [...sites] }] }, minimum: 3 },
    deadlines: { accept: "2m", training: "2m", aggregation: "2m" },
    aggregation: { privacy, clipNorm: "200" },
    publish: { oci: { repository: `${registry.host}/faults/${name}`, plainHTTP: true } },
    rounds: { count: 1 },
  };
  await client.create(FEDERATIONS, { metadata: { name, namespace }, spec: spec as never });
}

export async function roundOf(federation: FaultFederation, name: string): Promise<FederationRound | undefined> {
  const { client, namespace } = federation;
  return (await client.get(FEDERATION_ROUNDS, { namespace, name: `${name}-r1` })) as FederationRound | undefined;
}

/** With its rounds (owned by it) and its versions (owned by nobody). */
export async function deleteFederation(federation: FaultFederation, name: string): Promise<void> {
  const { client, namespace, registry } = federation;
  await client.delete(FEDERATIONS, { namespace, name });
  // The garbage collector would, but it takes half a minute to hear of CRDs that were just installed.
  await client.delete(FEDERATION_ROUNDS, { namespace, name: `${name}-r1` });
  await until(`the rounds of ${name} are gone`, 20_000, async () => !(await roundOf(federation, name)));
  for (const version of [0, 1]) await client.delete(ADAPTER_VERSIONS, { namespace, name: `${name}-v${version}` });
  rmSync(join(registry.storage, "docker/registry/v2/repositories/faults", name), { recursive: true, force: true });
}

export function repositoryOf({ registry }: FaultFederation, name: string): OciRepository {
  return new OciRepository({ registry: registry.host, repository: `faults/${name}`, plainHttp: true });
}

/** For federations that start from another one's adapter. @returns the file's bytes, for those that make version 0 in a Job */
async function pushInitial(registry: Registry, folder: string): Promise<Buffer> {
  const weights = join(folder, "start.safetensors");
  const tensors = MODULES.flatMap((module) => {
    const name = `base_model.model.model.layers.0.self_attn.${module}`;
    return [
      { name: `${name}.lora_A.weight`, shape: [RANK, WIDTH] as [number, number] },
      { name: `${name}.lora_B.weight`, shape: [WIDTH, RANK] as [number, number] },
    ];
  });
  await writeSafetensors(weights, tensors, new Map([["format", "pt"]]), () => [
    new Float32Array(RANK * WIDTH).fill(INITIAL_VALUE),
  ]);
  const config = formatAdapterConfig({ baseModel: BASE_MODEL, rank: RANK, alpha: 2 * RANK, targetModules: MODULES });
  const repository = new OciRepository({ registry: registry.host, repository: "start/adapter", plainHttp: true });
  await pushAdapter(
    repository,
    { weights, config, rank: RANK },
    { federation: "elsewhere", version: 3, baseModel: BASE_MODEL },
  );
  return readFileSync(weights);
}
