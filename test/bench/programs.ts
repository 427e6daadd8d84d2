/**
 * Rondo's own programs as processes on one machine: from a bundle like the image's, started by the image's script, each with a home that holds its
 * configuration, its volume and its log.
 */
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { SERVICES, type Service } from "../../operator/kube/resources.ts";
import type { ApiServer } from "../integration/api-server.ts";
import { launcher, PATH } from "./launcher.ts";
import type { ProcessGroup } from "./processes.ts";

const ROOT = join(import.meta.dirname, "../..");
/** A bundle of its own: somebody may be building images from dist/ at the same time. */
const DIST = join(ROOT, ".rondo/bench/dist");
export const MAIN = join(DIST, "main.js");
export const TRUST_DOMAIN = "bench.rondo.dev";

export interface Place {
  /** Logs, volumes and configuration. */
  folder: string;
  api: ApiServer;
  processes: ProcessGroup;
  /** The operator's. */
  namespace: string;
}

export function bundle(): void {
  execFileSync(process.execPath, [join(ROOT, "scripts/bundle.ts"), DIST], { cwd: ROOT, stdio: "ignore" });
}

/** One operator, which may be stopped and started again on the same ports and volume. */
export class OperatorProgram {
  readonly dataDir: string;
  readonly metricsUrl: string;
  /** Where agents connect. */
  readonly agentsPort: number;
  readonly #place: Place;
  readonly #home: string;
  readonly #config: object;
  readonly #port: number;
  #running: ReturnType<ProcessGroup["start"]> | undefined;

  private constructor(place: Place, ports: number[]) {
    const [agents, enrolment, tasks, metrics] = ports;
    this.#place = place;
    this.#port = metrics!;
    this.agentsPort = agents!;
    this.#home = join(place.folder, "operator");
    this.dataDir = join(this.#home, "data");
    this.metricsUrl = `http://127.0.0.1:${metrics}/metrics`;
    this.#config = {
      namespace: place.namespace,
      dataDir: this.dataDir,
      trustDomain: TRUST_DOMAIN,
      agents: { address: `127.0.0.1:${agents}`, endpoint: `127.0.0.1:${agents}` },
      enrolment: { address: `127.0.0.1:${enrolment}`, endpoint: `127.0.0.1:${enrolment}` },
      tasks: { address: `127.0.0.1:${tasks}`, service: "rondo-tasks" },
      metrics: { address: `127.0.0.1:${metrics}` },
      log: { level: "info" },
    };
  }

  static async make(place: Place): Promise<OperatorProgram> {
    const ports = await freePorts(4);
    await makeService(place.api, place.namespace, "rondo-tasks", ports[2]!);
    return new OperatorProgram(place, ports);
  }

  get pid(): number {
    return this.#running?.pid ?? 0;
  }

  /** Resolves when agents can connect. */
  async start(): Promise<void> {
    this.#running = startProgram(this.#place, this.#home, "operator", this.#config);
    await eventually("the operator is ready", 120, () => isReady(this.#port), 100);
  }

  /** In good order. */
  async stop(): Promise<void> {
    const running = this.#running;
    if (!running || running.exitCode !== null) return;
    const exited = once(running, "exit");
    running.kill("SIGTERM");
    await exited;
  }
}

export function startProgram({ processes, api }: Place, home: string, command: "operator" | "agent", config: object) {
  mkdirSync(join(home, "data"), { recursive: true });
  const file = join(home, "config.yaml");
  writeFileSync(file, JSON.stringify(config, null, 2)); // JSON is YAML
  const program = [launcher(MAIN), command, "--config", file];
  const { env, argv } = asInPod(api, home, program);
  return processes.start(argv[0]!, argv.slice(1), { env, cwd: home, log: join(home, "log") });
}

/**
 * With a service account's files where a pod has them, in a mount namespace of its own, so that a program runs the very code that it runs in
 * a pod (reading a kubeconfig takes a library of 10 MiB). That needs root; without, it gets a kubeconfig and the figures are a little larger.
 */
function asInPod(api: ApiServer, home: string, program: string[]): { env: NodeJS.ProcessEnv; argv: string[] } {
  if (process.getuid?.() !== 0) return { env: { PATH, KUBECONFIG: api.kubeconfig }, argv: program };
  const account = join(home, "serviceaccount");
  mkdirSync(account, { recursive: true });
  writeFileSync(join(account, "token"), api.adminToken, { mode: 0o600 });
  copyFileSync(join(api.dir, "certs/apiserver.crt"), join(account, "ca.crt"));
  const { hostname, port } = new URL(api.url);
  const env = { PATH, KUBERNETES_SERVICE_HOST: hostname, KUBERNETES_SERVICE_PORT: port };
  const folder = "/run/secrets/kubernetes.io/serviceaccount";
  const script = `mount -t tmpfs tmpfs /run && mkdir -p ${folder} && cp "$0"/* ${folder} && exec "$@"`;
  return { env, argv: ["unshare", "--mount", "sh", "-c", script, account, ...program] };
}

/** A Service without pods: what it is for here is its cluster IP, which the task server's certificate names. */
export async function makeService(api: ApiServer, namespace: string, name: string, port: number): Promise<Service> {
  return await api.client.create(SERVICES, {
    metadata: { name, namespace },
    spec: { ports: [{ name: "tasks", port }] },
  });
}

export async function isReady(port: number): Promise<boolean> {
  const answer = await fetch(`http://127.0.0.1:${port}/readyz`).catch(() => undefined);
  await answer?.body?.cancel();
  return answer?.status === 200;
}

/** Rarely: each look is work for the API server that is measured. Times come from status, not from here. */
const POLL_MS = 1000;

export async function eventually(
  what: string,
  seconds: number,
  isTrue: () => Promise<boolean>,
  pollMs = POLL_MS,
): Promise<void> {
  const deadline = Date.now() + seconds * 1000;
  while (!(await isTrue())) {
    if (Date.now() > deadline) throw new Error(`not within ${seconds} s: ${what}`);
    await sleep(pollMs);
  }
}

export async function freePorts(count: number): Promise<number[]> {
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
