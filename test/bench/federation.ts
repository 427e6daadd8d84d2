/**
 * A whole federation on one machine without nodes: a real API server with its controllers, a real registry, the operator's and the
 * agents' own processes from the bundle that the image holds, each agent in a namespace of its own, mutual TLS between them.
 * Not real: nodes. stand-in-kubelet.ts does what kubelet, container runtime and trainer would do, at once.
 */
import { execFile, execFileSync } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import type { RawObject } from "../../operator/kube/objects.ts";
import { NODES, PARTICIPANTS, SERVICES, type Service } from "../../operator/kube/resources.ts";
import { type ApiServer, startApiServer } from "../integration/api-server.ts";
import { type Registry, startRegistry } from "../integration/registry.ts";
import { ProcessGroup } from "./processes.ts";
import { NODE, type StandInKubelet, startStandInKubelet } from "./stand-in-kubelet.ts";

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, "../..");
/** A bundle of its own: somebody may be building images from dist/ at the same time. */
const DIST = join(ROOT, ".rondo/bench/dist");
const MAIN = join(DIST, "main.js");
/** As images/operator/rondo starts it. */
const NODE_OPTIONS = ["--max-semi-space-size=2", "--heap-growing-percent=300"];
const ENVIRONMENT = { MALLOC_ARENA_MAX: "2" };
export const IMAGE = "registry.example/bench/trainer:1";

export interface BenchFederation extends AsyncDisposable {
  api: ApiServer;
  registry: Registry;
  namespace: string;
  processes: ProcessGroup;
  operatorPid: number;
  agentPids: number[];
  kubelet: StandInKubelet;
}

/** @param folder  logs, volumes and configuration; the caller removes it */
export async function startFederation(folder: string, participants: number): Promise<BenchFederation> {
  execFileSync(process.execPath, [join(ROOT, "scripts/bundle.ts"), DIST], { cwd: ROOT, stdio: "ignore" });
  const undo = new AsyncDisposableStack();
  try {
    const registry = undo.use(await startRegistry());
    const api = await startApiServer({ controllerManager: true });
    undo.defer(() => api.stop());
    await api.installCrds();
    await api.client.create(NODES, { metadata: { name: NODE } });
    const processes = new ProcessGroup((command) => (command.includes(" operator ") ? "server" : "client"));
    undo.defer(() => processes.end());
    const namespace = await api.createNamespace("coordinator");
    const context: Context = { folder, api, processes, namespace };

    const operator = await startOperator(context);
    const sites = Array.from({ length: participants }, (_, i) => `site-${i + 1}`);
    for (const site of sites) {
      await api.client.create(PARTICIPANTS, {
        metadata: { name: site, namespace, labels: { bench: "yes" } },
        spec: {},
      });
    }
    const ports = new Map<string, number>();
    const agentPids: number[] = [];
    for (const site of sites) {
      const agent = await startAgent(context, site);
      agentPids.push(agent.pid);
      ports.set(agent.clusterIp, agent.taskPort);
    }
    await eventually("all participants connected", 60, async () => {
      const { items } = await api.client.list(PARTICIPANTS, { namespace });
      return items.every(
        (item) => (item as RawObject & { status?: { connected?: boolean } }).status?.connected === true,
      );
    });
    const kubelet = await startStandInKubelet(api.client, ports);
    undo.defer(() => kubelet.stop());
    const dispose = undo.move();
    return {
      api,
      registry,
      namespace,
      processes,
      operatorPid: operator,
      agentPids,
      kubelet,
      [Symbol.asyncDispose]: () => dispose.disposeAsync(),
    };
  } catch (error) {
    await undo.disposeAsync();
    throw error;
  }
}

interface Context {
  folder: string;
  api: ApiServer;
  processes: ProcessGroup;
  namespace: string;
}

async function startOperator({ folder, api, processes, namespace }: Context): Promise<number> {
  const [agents, enrolment, tasks, metrics] = await freePorts(4);
  await makeService(api, namespace, "rondo-tasks", tasks!);
  const home = join(folder, "operator");
  const config = {
    namespace,
    dataDir: join(home, "data"),
    trustDomain: "bench.rondo.dev",
    agents: { address: `127.0.0.1:${agents}`, endpoint: `127.0.0.1:${agents}` },
    enrolment: { address: `127.0.0.1:${enrolment}`, endpoint: `127.0.0.1:${enrolment}` },
    tasks: { address: `127.0.0.1:${tasks}`, service: "rondo-tasks" },
    metrics: { address: `127.0.0.1:${metrics}` },
    log: { level: "info" },
  };
  const child = start(processes, api, home, ["operator"], config);
  await eventually("the operator is ready", 60, () => isReady(metrics!));
  return child;
}

async function startAgent({ folder, api, processes, namespace }: Context, site: string) {
  const [tasks, metrics] = await freePorts(2);
  const own = await api.createNamespace(site);
  const service = await makeService(api, own, "rondo-agent-tasks", tasks!);
  const home = join(folder, site);
  mkdirSync(home, { recursive: true });
  const invitation = join(home, "invitation.json");
  const { stdout } = await run(process.execPath, [MAIN, "invite", site, "-n", namespace, "-o", "json"], {
    env: { ...process.env, KUBECONFIG: api.kubeconfig },
  });
  writeFileSync(invitation, stdout, { mode: 0o600 });
  const config = {
    namespace: own,
    dataDir: join(home, "data"),
    invitation,
    tasks: { address: `127.0.0.1:${tasks}`, service: "rondo-agent-tasks" },
    metrics: { address: `127.0.0.1:${metrics}` },
    policy: { federations: ["*"], images: ["*"], privacy: ["secure", "trusted"], minParticipants: 1, gpus: { max: 1 } },
    podTemplate: { spec: { nodeName: NODE } },
    log: { level: "info" },
  };
  const pid = start(processes, api, home, ["agent"], config);
  await eventually(`the agent of ${site} is ready`, 60, () => isReady(metrics!));
  return { pid, clusterIp: service.spec?.clusterIP ?? "", taskPort: tasks! };
}

function start(processes: ProcessGroup, api: ApiServer, home: string, command: string[], config: object): number {
  mkdirSync(join(home, "data"), { recursive: true });
  const file = join(home, "config.yaml");
  writeFileSync(file, JSON.stringify(config, null, 2)); // JSON is YAML
  const program = [process.execPath, ...NODE_OPTIONS, MAIN, ...command, "--config", file];
  const { env, argv } = asInPod(api, home, program);
  const child = processes.start(argv[0]!, argv.slice(1), { env, cwd: home, log: join(home, "log") });
  return child.pid ?? 0;
}

/**
 * With a service account's files where a pod has them, in a mount namespace of its own, so that a program runs the very code that it runs in
 * a pod (reading a kubeconfig takes a library of 10 MiB). That needs root; without, it gets a kubeconfig and the figures are a little larger.
 */
function asInPod(api: ApiServer, home: string, program: string[]): { env: NodeJS.ProcessEnv; argv: string[] } {
  if (process.getuid?.() !== 0) return { env: { ...ENVIRONMENT, KUBECONFIG: api.kubeconfig }, argv: program };
  const account = join(home, "serviceaccount");
  mkdirSync(account, { recursive: true });
  writeFileSync(join(account, "token"), api.adminToken, { mode: 0o600 });
  copyFileSync(join(api.dir, "certs/apiserver.crt"), join(account, "ca.crt"));
  const { hostname, port } = new URL(api.url);
  const env = { ...ENVIRONMENT, KUBERNETES_SERVICE_HOST: hostname, KUBERNETES_SERVICE_PORT: port };
  const folder = "/run/secrets/kubernetes.io/serviceaccount";
  const script = `mount -t tmpfs tmpfs /run && mkdir -p ${folder} && cp "$0"/* ${folder} && exec "$@"`;
  return { env, argv: ["unshare", "--mount", "sh", "-c", script, account, ...program] };
}

/** A Service without pods: what it is for here is its cluster IP, which the task server's certificate names. */
async function makeService(api: ApiServer, namespace: string, name: string, port: number): Promise<Service> {
  return await api.client.create(SERVICES, {
    metadata: { name, namespace },
    spec: { ports: [{ name: "tasks", port }] },
  });
}

async function isReady(port: number): Promise<boolean> {
  const answer = await fetch(`http://127.0.0.1:${port}/readyz`).catch(() => undefined);
  await answer?.body?.cancel();
  return answer?.status === 200;
}

/** Rarely: each look is work for the API server that is measured. Times come from status, not from here. */
const POLL_MS = 1000;

export async function eventually(what: string, seconds: number, isTrue: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + seconds * 1000;
  while (!(await isTrue())) {
    if (Date.now() > deadline) throw new Error(`not within ${seconds} s: ${what}`);
    await sleep(POLL_MS);
  }
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
