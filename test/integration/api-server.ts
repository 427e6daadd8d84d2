/**
 * A real etcd and kube-apiserver on random loopback ports, in a folder of their own, ready in three to four seconds.
 * They can be frozen, killed, started again and compacted, as clusters are in bad nights. With `controllerManager` Jobs get pods and
 * owned objects are garbage-collected; nothing ever runs a pod.
 * Holds: what it started ends with it, and with the test process, however that ends (PR_SET_PDEATHSIG).
 * Several files at once: shared-api-server.ts gives all of them one server; each works in a namespace of its own.
 * Other users for RBAC: `kubectl --as`.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { once } from "node:events";
import { closeSync, openSync, readFileSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parse } from "yaml";
import { KubeClient } from "../../operator/kube/client.ts";
import { fromKubeconfig } from "../../operator/kube/credentials.ts";
import {
  CUSTOM_RESOURCE_DEFINITIONS,
  type CustomResourceDefinition,
  NAMESPACES,
} from "../../operator/kube/resources.ts";

const BINARIES = join(process.env.RONDO_CACHE ?? join(homedir(), ".cache/rondo"), "bin");
const CRDS = join(import.meta.dirname, "../../crds");
const SERVICE_RANGE = "10.96.0.0/24";

export type ApiServerOptions = {
  controllerManager?: boolean;
};

export type ApiServer = {
  /** Path of a kubeconfig of system:masters. */
  readonly kubeconfig: string;
  readonly url: string;
  readonly adminToken: string;
  /** An administrator's client; the fieldManager is "test". */
  readonly client: KubeClient;
  /** Holds logs: etcd.log, kube-apiserver.log, kube-controller-manager.log. */
  readonly dir: string;
  /** Applies crds/*.yaml and waits until the API server serves them. */
  installCrds(): Promise<void>;
  /** A new namespace with a random name. */
  createNamespace(prefix?: string): Promise<string>;
  /** The API server stops answering, connections stay open (SIGSTOP). */
  pause(): void;
  resume(): void;
  /** The API server dies at once; etcd lives on. */
  kill(): Promise<void>;
  /** Kills it if it still runs, and starts it again on the same port. */
  restart(): Promise<void>;
  /** etcd forgets all but the newest revision. */
  compact(): Promise<void>;
  stop(): Promise<void>;
};

export async function startApiServer(options: ApiServerOptions = {}): Promise<ApiServer> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await startOnce(options);
    } catch (error) {
      // The usual reason: another process took one of the ports between our look and the bind.
      if (attempt === 3) throw error;
    }
  }
}

async function startOnce({ controllerManager = false }: ApiServerOptions): Promise<ApiServer> {
  const dir = await mkdtemp(join(tmpdir(), "rondo-api-"));
  const [etcdPort, peerPort, apiPort] = await freePorts(3);
  const url = `https://127.0.0.1:${apiPort}`;
  const etcdUrl = `http://127.0.0.1:${etcdPort}`;
  const adminToken = await writeKeys(dir);
  const programs: Program[] = [];
  const run = (name: string, argv: string[]) => {
    const program = startProgram(dir, name, argv);
    programs.push(program);
    return program;
  };
  const stop = async () => {
    await Promise.all(programs.map((program) => program.kill()));
    await rm(dir, { recursive: true, force: true, maxRetries: 5 });
  };
  try {
    run("etcd", etcdArguments(dir, etcdUrl, `http://127.0.0.1:${peerPort}`));
    const runApiServer = () => run("kube-apiserver", apiServerArguments(dir, etcdUrl, apiPort!));
    let apiServer = runApiServer();
    const kubeconfig = join(dir, "admin.kubeconfig");
    await waitForFile(join(dir, "certs/apiserver.crt"), apiServer);
    const ca = readFileSync(join(dir, "certs/apiserver.crt")).toString("base64");
    await writeFile(kubeconfig, kubeconfigText(url, ca, { token: adminToken }), { mode: 0o600 });
    const client = new KubeClient({ credentials: fromKubeconfig(kubeconfig), fieldManager: "test" });
    await waitUntilReady(client, apiServer);
    if (controllerManager) run("kube-controller-manager", controllerManagerArguments(dir, kubeconfig));
    return {
      kubeconfig,
      url,
      adminToken,
      client,
      dir,
      installCrds: () => installCrds(client),
      createNamespace: (prefix = "test") => createNamespace(client, prefix),
      pause: () => apiServer.signal("SIGSTOP"),
      resume: () => apiServer.signal("SIGCONT"),
      kill: () => apiServer.kill(),
      async restart() {
        await apiServer.kill();
        apiServer = runApiServer();
        await waitUntilReady(client, apiServer);
      },
      compact: () => compact(etcdUrl),
      async stop() {
        client.close();
        await stop();
      },
    };
  } catch (error) {
    const logs = await readFile(join(dir, "kube-apiserver.log"), "utf8").catch(() => "");
    await stop();
    throw new Error(`the API server did not start: ${logs.split("\n").slice(-5).join("\n")}`, { cause: error });
  }
}

/** @returns the administrator's token */
async function writeKeys(dir: string): Promise<string> {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
  const token = randomBytes(24).toString("hex");
  await Promise.all([
    writeFile(join(dir, "sa.key"), privateKey.export({ type: "sec1", format: "pem" }), { mode: 0o600 }),
    writeFile(join(dir, "sa.pub"), publicKey.export({ type: "spki", format: "pem" })),
    writeFile(join(dir, "tokens.csv"), `${token},admin,admin,"system:masters"\n`, { mode: 0o600 }),
  ]);
  return token;
}

function etcdArguments(dir: string, clientUrl: string, peerUrl: string): string[] {
  return [
    `--data-dir=${join(dir, "etcd")}`,
    `--listen-client-urls=${clientUrl}`,
    `--advertise-client-urls=${clientUrl}`,
    `--listen-peer-urls=${peerUrl}`,
    `--initial-advertise-peer-urls=${peerUrl}`,
    `--initial-cluster=default=${peerUrl}`,
    "--unsafe-no-fsync",
    // A single member has nobody to wait for.
    "--heartbeat-interval=50",
    "--election-timeout=500",
    "--log-level=warn",
  ];
}

function apiServerArguments(dir: string, etcdUrl: string, port: number): string[] {
  return [
    `--etcd-servers=${etcdUrl}`,
    `--secure-port=${port}`,
    "--bind-address=127.0.0.1",
    "--advertise-address=127.0.0.1",
    // It makes a self-signed serving certificate there, and finds it again after a restart.
    `--cert-dir=${join(dir, "certs")}`,
    `--token-auth-file=${join(dir, "tokens.csv")}`,
    "--authorization-mode=RBAC",
    `--service-cluster-ip-range=${SERVICE_RANGE}`,
    "--service-account-issuer=https://kubernetes.default.svc",
    `--service-account-key-file=${join(dir, "sa.pub")}`,
    `--service-account-signing-key-file=${join(dir, "sa.key")}`,
    "--profiling=false",
  ];
}

function controllerManagerArguments(dir: string, kubeconfig: string): string[] {
  return [
    `--kubeconfig=${kubeconfig}`,
    "--leader-elect=false",
    "--secure-port=0",
    `--service-account-private-key-file=${join(dir, "sa.key")}`,
    `--root-ca-file=${join(dir, "certs/apiserver.crt")}`,
    "--controllers=*,-nodeipam,-nodelifecycle,-cloud-node-lifecycle",
  ];
}

type Program = {
  name: string;
  log: string;
  exited(): boolean;
  signal(signal: NodeJS.Signals): void;
  kill(): Promise<void>;
};

function startProgram(dir: string, name: string, argv: string[]): Program {
  const path = join(dir, `${name}.log`);
  const log = openSync(path, "a");
  const child: ChildProcess = spawn("setpriv", ["--pdeathsig", "KILL", join(BINARIES, name), ...argv], {
    stdio: ["ignore", log, log],
    env: { PATH: process.env.PATH, HOME: dir },
  });
  closeSync(log);
  let hasExited = false;
  const exit = Promise.race([once(child, "exit"), once(child, "error")]).then(() => {
    hasExited = true;
  });
  return {
    name,
    log: path,
    exited: () => hasExited,
    signal: (signal) => void child.kill(signal),
    async kill() {
      if (!hasExited) child.kill("SIGKILL");
      await exit;
    },
  };
}

async function waitForFile(path: string, program: Program): Promise<void> {
  await waitFor(program, async () => (await readFile(path, "utf8").catch(() => "")).includes("END CERTIFICATE"));
}

async function waitUntilReady(client: KubeClient, apiServer: Program): Promise<void> {
  await waitFor(
    apiServer,
    async () => (await client.getText("/readyz", { timeoutMs: 2_000 }).catch(() => "")) === "ok",
  );
}

async function waitFor(program: Program, isTrue: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!(await isTrue())) {
    if (program.exited()) throw new Error(`${program.name} ended`);
    if (Date.now() > deadline) throw new Error(`${program.name} is not ready after 60 s`);
    await sleep(100);
  }
}

export async function installCrds(client: KubeClient): Promise<void> {
  const files = (await readdir(CRDS)).filter((file) => file.endsWith(".yaml"));
  const crds = (await Promise.all(
    files.map(async (file) => parse(await readFile(join(CRDS, file), "utf8"))),
  )) as CustomResourceDefinition[];
  await Promise.all(crds.map((crd) => client.apply(CUSTOM_RESOURCE_DEFINITIONS, crd)));
  for (const crd of crds) {
    const { group, versions, names } = crd.spec;
    const path = `/apis/${group}/${versions[0]?.name}/${names.plural}?limit=1`;
    // Established comes a moment before the path is served by every handler; to be served is what tests need.
    while (!(await client.getText(path).catch(() => ""))) await sleep(50);
  }
}

export async function createNamespace(client: KubeClient, prefix: string): Promise<string> {
  const name = `${prefix}-${randomBytes(4).toString("hex")}`;
  await client.create(NAMESPACES, { metadata: { name } });
  return name;
}

/** By etcd's JSON gateway: there is no etcdctl among the binaries. */
async function compact(etcdUrl: string): Promise<void> {
  const post = async (path: string, body: object) => {
    const answer = await fetch(`${etcdUrl}${path}`, { method: "POST", body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`etcd ${path}: ${answer.status} ${await answer.text()}`);
    return (await answer.json()) as { header: { revision: string } };
  };
  const { header } = await post("/v3/kv/range", { key: Buffer.from("a").toString("base64") });
  await post("/v3/kv/compaction", { revision: header.revision, physical: true });
}

function kubeconfigText(server: string, ca: string, user: object): string {
  // JSON is YAML.
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "test", cluster: { server, "certificate-authority-data": ca } }],
    users: [{ name: "admin", user }],
    contexts: [{ name: "test", context: { cluster: "test", user: "admin", namespace: "default" } }],
    "current-context": "test",
  });
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
