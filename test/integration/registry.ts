/**
 * A real registry (Debian's docker-registry, CNCF distribution) on a random loopback port with storage of its own, for tests
 * and benchmarks. It can be stopped and started again on the same port and storage, as a registry that was down for a while.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export interface RegistryOptions {
  /** Asks for REGISTRY_USER and REGISTRY_PASSWORD, for reading too. */
  authenticated?: boolean;
  /** Takes tokens of this service instead, signed with a key whose certificate is in the file. */
  tokens?: { realm: string; service: string; issuer: string; rootcertbundle: string };
}

export const REGISTRY_USER = "publisher";
export const REGISTRY_PASSWORD = "only-for-tests";
/** `htpasswd -Bbn publisher only-for-tests` with cost 4: the registry takes bcrypt only, and Node has none. */
const HTPASSWD = "publisher:$2y$04$NevDr3Sx14TPYw9naeUyuugnfAteUnROXxUEEbz.x6X3aYfH/U9C6\n";

export interface Registry extends AsyncDisposable {
  /** 127.0.0.1:port, plain HTTP */
  readonly host: string;
  /** Where distribution keeps what it was given. */
  readonly storage: string;
  readonly pid: number | undefined;
  stop(): Promise<void>;
  start(): Promise<void>;
}

export async function startRegistry(options: RegistryOptions = {}): Promise<Registry> {
  const folder = await mkdtemp(join(tmpdir(), "rondo-registry-"));
  const port = await freePort();
  const storage = join(folder, "storage");
  const config = join(folder, "config.yml");
  await writeFile(join(folder, "htpasswd"), HTPASSWD);
  const auth = options.authenticated
    ? { htpasswd: { realm: "rondo tests", path: join(folder, "htpasswd") } }
    : options.tokens && { token: options.tokens };
  await writeFile(config, configuration(port, storage, auth));
  let child: ChildProcess | undefined;

  async function start(): Promise<void> {
    child = spawn("docker-registry", ["serve", config], { stdio: ["ignore", "ignore", "ignore"] });
    const failed = once(child, "error").then(([error]) => Promise.reject(error));
    await Promise.race([answers(`http://127.0.0.1:${port}/v2/`, child), failed]);
  }
  async function stop(): Promise<void> {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.kill("SIGKILL"); // as a machine that loses power: nothing is finished politely
    await exited;
  }
  await start();
  return {
    host: `127.0.0.1:${port}`,
    storage,
    get pid() {
      return child?.pid;
    },
    start,
    stop,
    async [Symbol.asyncDispose]() {
      await stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

function configuration(port: number, storage: string, auth: object | undefined): string {
  // JSON is YAML.
  return JSON.stringify({
    version: 0.1,
    log: { level: "error", accesslog: { disabled: true } },
    storage: { filesystem: { rootdirectory: storage }, delete: { enabled: true } },
    http: { addr: `127.0.0.1:${port}`, secret: "only-for-tests" },
    ...(auth && { auth }),
  });
}

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

async function answers(url: string, child: ChildProcess): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    if (child.exitCode !== null) throw new Error(`docker-registry ended with ${child.exitCode}`);
    const response = await fetch(url).catch(() => undefined);
    await response?.body?.cancel();
    if (response !== undefined) return;
    await sleep(50);
  }
  throw new Error("docker-registry did not answer within 10 s");
}
