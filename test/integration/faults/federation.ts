/**
 * An operator and four sites as programs of the fault-injection build (program.ts), with the rights of their charts, around a real API server, a
 * real registry and real gRPC. Each case is a federation of its own with one secure round; what was the same in all cases would hide what a
 * case has left behind.
 */
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { FederationSpecInput } from "../../../operator/api/federation.ts";
import type { FederationRound } from "../../../operator/api/federation-round.ts";
import { invite } from "../../../operator/cli/invite.ts";
import type { KubeClient } from "../../../operator/kube/client.ts";
import {
  ADAPTER_VERSIONS,
  FEDERATION_ROUNDS,
  FEDERATIONS,
  PARTICIPANTS,
  SERVICES,
} from "../../../operator/kube/resources.ts";
import { OciRepository } from "../../../operator/publish/oci.ts";
import { formatAdapterConfig } from "../../../operator/publish/peft.ts";
import { pushAdapter } from "../../../operator/publish/push-adapter.ts";
import { writeSafetensors } from "../../../operator/publish/safetensors.ts";
import { kubeconfigOfChart } from "../charts/role-of-chart.ts";
import { type Registry, startRegistry } from "../registry.ts";
import { sharedApiServer } from "../shared-api-server.ts";
import { Program } from "./program.ts";
import { Trainers } from "./trainers.ts";

const ROOT = join(import.meta.dirname, "../../..");
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
  const build = join(folder, "dist");
  execFileSync(process.execPath, [join(ROOT, "scripts/bundle.ts"), build, "--fault-injection"], {
    cwd: ROOT,
    stdio: "ignore",
  });
  const undo = new AsyncDisposableStack();
  try {
    const api = await sharedApiServer();
    const registry = undo.use(await startRegistry());
    await pushInitial(registry, folder);
    const namespace = await api.createNamespace("coordinator");
    const context: Context = { api, folder, build, namespace, undo };
    const operator = await startOperator(context);
    const started = await Promise.all(SITES.map((site) => startSite(context, site)));
    const bySite = <T>(of: (site: (typeof started)[number]) => T) =>
      Object.fromEntries(started.map((site) => [site.name, of(site)])) as Record<SiteName, T>;
    const dispose = undo.move();
    return {
      client: api.client,
      namespace,
      registry,
      folder,
      programs: { operator, ...bySite(({ agent }) => agent) },
      trainers: bySite(({ trainers }) => trainers),
      siteNamespaces: bySite((site) => site.namespace),
      [Symbol.asyncDispose]: () => dispose.disposeAsync(),
    };
  } catch (error) {
    await undo.disposeAsync();
    throw error;
  }
}

interface Context {
  api: Awaited<ReturnType<typeof sharedApiServer>>;
  folder: string;
  build: string;
  namespace: string;
  undo: AsyncDisposableStack;
}

async function startOperator({ api, folder, build, namespace, undo }: Context): Promise<Program> {
  const [agents, enrolment, tasks, metrics] = await freePorts(4);
  await makeService(api.client, namespace, "rondo-tasks");
  const home = join(folder, "operator");
  mkdirSync(home, { recursive: true });
  const config = {
    namespace,
    trustDomain: "rondo.test",
    agents: { address: `127.0.0.1:${agents}`, endpoint: `127.0.0.1:${agents}` },
    enrolment: { address: `127.0.0.1:${enrolment}`, endpoint: `127.0.0.1:${enrolment}` },
    tasks: { address: `127.0.0.1:${tasks}`, service: "rondo-tasks" },
    metrics: { address: `127.0.0.1:${metrics}` },
  };
  const kubeconfig = await kubeconfigOfChart("rondo", { administrator: api.kubeconfig, namespace, folder: home });
  const argv = [join(build, "main.js"), "operator", "--config", "CONFIG", "--kubeconfig", "KUBECONFIG"];
  const program = new Program({ name: "operator", argv, config, kubeconfig, folder: home, metricsPort: metrics! });
  undo.defer(() => program.stop());
  await program.start();
  return program;
}

async function startSite({ api, folder, build, namespace: coordinator, undo }: Context, name: SiteName) {
  const { client } = api;
  const [tasks, metrics] = await freePorts(2);
  const namespace = await api.createNamespace(name);
  await makeService(client, namespace, "rondo-agent-tasks");
  const home = join(folder, name);
  mkdirSync(home, { recursive: true });
  await client.create(PARTICIPANTS, { metadata: { name, namespace: coordinator, labels: { site: name } }, spec: {} });
  const invitation = join(home, "invitation.json");
  const invited = await invite(client, { name, namespace: coordinator, ttlMs: 600_000, nowMs: Date.now() });
  writeFileSync(invitation, JSON.stringify(invited), { mode: 0o600 });
  const config = {
    namespace,
    invitation,
    tasks: { address: `127.0.0.1:${tasks}` },
    metrics: { address: `127.0.0.1:${metrics}` },
    policy: {
      federations: ["*"],
      images: ["*"],
      privacy: ["secure"],
      minCohort: 3,
      releasesPerParent: 1000,
      gpus: { max: 0 },
    },
    podTemplate: { spec: { containers: [{ name: "trainer", command: ["train"] }], terminationGracePeriodSeconds: 0 } },
  };
  const kubeconfig = await kubeconfigOfChart("rondo-agent", {
    administrator: api.kubeconfig,
    namespace,
    folder: home,
  });
  // Not `rondo agent`, which waits longer from death to death of its operator: here they follow each other by seconds.
  const argv = [join(build, "agent-process.js"), "CONFIG", "KUBECONFIG"];
  const agent = new Program({ name, argv, config, kubeconfig, folder: home, metricsPort: metrics! });
  undo.defer(() => agent.stop());
  await agent.start();
  const serverName = `rondo-agent-tasks.${namespace}.svc`;
  const trainers = new Trainers({ client, namespace, port: tasks!, serverName, step: STEPS[name] });
  undo.defer(() => trainers.stop());
  await trainers.start();
  await until(`${name} is connected`, 30_000, () => isConnected({ client, namespace: coordinator }, name));
  return { name, namespace, agent, trainers };
}

export async function isConnected(
  { client, namespace }: Pick<FaultFederation, "client" | "namespace">,
  name: SiteName,
): Promise<boolean> {
  const participant = await client.get(PARTICIPANTS, { namespace, name });
  return (participant as { status?: { connected?: boolean } } | undefined)?.status?.connected === true;
}

export async function setSuspended(
  { client, namespace }: FaultFederation,
  name: SiteName,
  suspended: boolean,
): Promise<void> {
  await client.patchMerge(PARTICIPANTS, { namespace, name }, { spec: { suspended } });
}

/** One secure round of these sites, which the federation makes itself. */
export async function createFederation(
  { client, namespace, registry }: FaultFederation,
  name: string,
  sites: readonly SiteName[],
): Promise<void> {
  const spec: FederationSpecInput = {
    baseModel: BASE_MODEL,
    adapter: {
      rank: RANK,
      alpha: 2 * RANK,
      targetModules: MODULES,
      initialFrom: { reference: `${registry.host}/start/adapter:v3` },
    },
    training: { image: "trainer:test", steps: 1, resources: { gpus: 0 } },
    participants: { selector: { matchExpressions: [{ key: "site", operator: "In", values: [...sites] }] }, minimum: 3 },
    deadlines: { accept: "2m", training: "2m", aggregation: "2m" },
    aggregation: { privacy: "secure", clipNorm: "100" },
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

export async function until(what: string, mostMs: number, isTrue: () => Promise<boolean>): Promise<void> {
  for (const endMs = Date.now() + mostMs; !(await isTrue()); await sleep(40))
    if (Date.now() > endMs) throw new Error(`not within ${mostMs / 1000} s: ${what}`);
}

/** No kubelet is there to run an initialise Job: version 0 comes from another federation. */
async function pushInitial(registry: Registry, folder: string): Promise<void> {
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
}

async function makeService(client: KubeClient, namespace: string, name: string): Promise<void> {
  await client.create(SERVICES, { metadata: { name, namespace }, spec: { ports: [{ name: "tasks", port: 8445 }] } });
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer().listen(0, "127.0.0.1");
      await once(server, "listening");
      return server;
    }),
  );
  return servers.map((server) => {
    const { port } = server.address() as { port: number };
    server.close();
    return port;
  });
}
