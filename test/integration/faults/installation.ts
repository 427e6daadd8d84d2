/**
 * Operator and sites as programs of the fault-injection build (program.ts), on volumes of their own, with the rights of their charts, in
 * namespaces of a real API server. Prepared is not started: a program can be given its order before it has ever run.
 */
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { invite } from "../../../operator/cli/invite.ts";
import type { KubeClient } from "../../../operator/kube/client.ts";
import { PARTICIPANTS, SERVICES } from "../../../operator/kube/resources.ts";
import { kubeconfigOfChart } from "../charts/role-of-chart.ts";
import type { SharedApiServer } from "../shared-api-server.ts";
import { Program } from "./program.ts";

const ROOT = join(import.meta.dirname, "../../..");

export interface Place {
  api: SharedApiServer;
  /** The build's folder (buildInto). */
  build: string;
  /** Logs and volumes; the caller removes it. */
  folder: string;
  /** The operator's. */
  namespace: string;
  /** Gets what ends the programs. */
  undo: AsyncDisposableStack;
}

/** Where a program's task server listens, and what its certificate names. */
export interface TaskDoor {
  port: number;
  serverName: string;
}

export interface PreparedOperator {
  program: Program;
  tasks: TaskDoor;
}

export interface PreparedSite {
  name: string;
  namespace: string;
  agent: Program;
  tasks: TaskDoor;
}

/** @returns the folder of the build */
export function buildInto(folder: string): string {
  const build = join(folder, "dist");
  const script = join(ROOT, "scripts/bundle.ts");
  execFileSync(process.execPath, [script, build, "--fault-injection"], { cwd: ROOT, stdio: "ignore" });
  return build;
}

export async function prepareOperator({ api, folder, build, namespace, undo }: Place): Promise<PreparedOperator> {
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
  return { program, tasks: { port: tasks!, serverName: `rondo-tasks.${namespace}.svc` } };
}

/** The operator runs: the invitation says how it is reached. */
export async function prepareSite(
  { api, folder, build, namespace: coordinator, undo }: Place,
  name: string,
): Promise<PreparedSite> {
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
      privacy: ["secure", "trusted"],
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
  return { name, namespace, agent, tasks: { port: tasks!, serverName: `rondo-agent-tasks.${namespace}.svc` } };
}

export async function isConnected(
  { client, namespace }: { client: KubeClient; namespace: string },
  name: string,
): Promise<boolean> {
  const participant = await client.get(PARTICIPANTS, { namespace, name });
  return (participant as { status?: { connected?: boolean } } | undefined)?.status?.connected === true;
}

export async function until(what: string, mostMs: number, isTrue: () => Promise<boolean>): Promise<void> {
  for (const endMs = Date.now() + mostMs; !(await isTrue()); await sleep(40))
    if (Date.now() > endMs) throw new Error(`not within ${mostMs / 1000} s: ${what}`);
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
