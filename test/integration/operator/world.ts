/**
 * A namespace with a running operator for one test: real API server, real registry, real gRPC on loopback. The operator runs in this
 * process (startOperator) or as a program of its own (`node operator/main.ts operator`), which can be killed.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import type { FederationSpecInput } from "../../../operator/api/federation.ts";
import type { FederationRound } from "../../../operator/api/federation-round.ts";
import { invite } from "../../../operator/cli/invite.ts";
import { operatorConfigSchema } from "../../../operator/controllers/config.ts";
import { startOperator } from "../../../operator/controllers/operator.ts";
import type { KubeClient } from "../../../operator/kube/client.ts";
import { fromKubeconfig } from "../../../operator/kube/credentials.ts";
import { ADAPTER_VERSIONS, FEDERATION_ROUNDS, FEDERATIONS, PARTICIPANTS } from "../../../operator/kube/resources.ts";
import { OciRepository } from "../../../operator/publish/oci.ts";
import { formatAdapterConfig } from "../../../operator/publish/peft.ts";
import { pullAdapter } from "../../../operator/publish/pull-adapter.ts";
import { pushAdapter } from "../../../operator/publish/push-adapter.ts";
import { openSafetensors, writeSafetensors } from "../../../operator/publish/safetensors.ts";
import { createLogger } from "../../../operator/telemetry/logger.ts";
import { kubeconfigOfChart } from "../charts/role-of-chart.ts";
import { type Cable, layCable } from "../kube/cable.ts";
import { type Registry, startRegistry } from "../registry.ts";
import { sharedApiServer } from "../shared-api-server.ts";
import { type Behaviour, Player } from "./player.ts";

/** LoRA of two modules; 9 kB with rank 4. */
const tensorsOf = (rank: number, width: number) =>
  ["q_proj", "v_proj"].flatMap((module) => [
    {
      name: `base_model.model.model.layers.0.self_attn.${module}.lora_A.weight`,
      shape: [rank, width] as [number, number],
    },
    {
      name: `base_model.model.model.layers.0.self_attn.${module}.lora_B.weight`,
      shape: [width, rank] as [number, number],
    },
  ]);
export const BASE_MODEL = { name: "test/llama", revision: "main", digest: `sha256:${"0".repeat(64)}` };
/** Every value of the adapter that federations here start from. */
export const INITIAL_VALUE = 0.5;
const PROGRAM = join(import.meta.dirname, "../../../operator/main.ts");

export interface MakeOptions {
  width?: number;
  dataDir?: string;
  cable?: boolean;
}

export interface Rival {
  dataDir: string;
  /** Rejects when it ends before. */
  ready: Promise<void>;
  stop(): Promise<void>;
}

export class TestWorld {
  readonly client: KubeClient;
  /** With the rights that the chart gives the operator, and no more. */
  readonly kubeconfig: string;
  readonly namespace: string;
  readonly registry: Registry;
  readonly folder: string;
  readonly players: Player[] = [];
  taskPort = 0;
  metricsUrl = "";
  #stopOperator: (() => Promise<unknown>) | undefined;
  /** How often keepOperator() has seen it end. */
  restarts = 0;
  #configFile = "";
  #dataDir = "";
  #cable: Cable | undefined;
  #cableKubeconfig: string | undefined;
  #child: ChildProcess | undefined;

  private constructor(parts: Pick<TestWorld, "client" | "kubeconfig" | "namespace" | "registry" | "folder">) {
    this.client = parts.client;
    this.kubeconfig = parts.kubeconfig;
    this.namespace = parts.namespace;
    this.registry = parts.registry;
    this.folder = parts.folder;
  }

  /**
   * @param width    of the two modules: 2^20 makes an adapter of 64 MiB
   * @param dataDir  the operator's volume; by itself in the test's folder
   * @param cable    between operator and API server
   */
  static async make({ width = 64, dataDir, cable = false }: MakeOptions = {}): Promise<TestWorld> {
    const [{ client, kubeconfig, createNamespace }, registry, folder] = await Promise.all([
      sharedApiServer(),
      startRegistry(),
      mkdtemp(join(tmpdir(), "rondo-operator-")),
    ]);
    const namespace = await createNamespace("op");
    const world = new TestWorld({
      client,
      kubeconfig: await kubeconfigOfChart("rondo", { administrator: kubeconfig, namespace, folder }),
      namespace,
      registry,
      folder,
    });
    world.#dataDir = dataDir ?? join(folder, "operator");
    if (cable) await world.#layCable();
    world.#configFile = await world.#writeConfig(world.#dataDir);
    await world.#pushStart(width);
    return world;
  }

  async stop(): Promise<void> {
    await Promise.all(this.players.map((player) => player.stop()));
    await this.stopOperator();
    await this.#cable?.close();
    await this.registry[Symbol.asyncDispose]();
    await rm(this.folder, { recursive: true, force: true });
  }

  /** In this process. */
  async startOperator(): Promise<void> {
    const log = createLogger({ level: (process.env.RONDO_TEST_LOG as "info") ?? "fatal", name: "operator" });
    const config = operatorConfigSchema.parse(JSON.parse(await readFile(this.#configFile, "utf8")));
    const operator = await startOperator({
      config,
      version: "0.0.0-test",
      credentials: fromKubeconfig(this.#operatorKubeconfig),
      log,
      onFatal: (why) => {
        throw new Error(why);
      },
    });
    this.#stopOperator = () => operator.stop();
    this.metricsUrl = `http://127.0.0.1:${operator.ports.metrics}`;
  }

  /** As a program, which a test can kill. */
  async spawnOperator(): Promise<void> {
    const { child, ready } = this.#spawn(this.#configFile);
    this.#child = child;
    this.#stopOperator = () => ended(child);
    await ready;
  }

  /** As a program that a kubelet starts again whenever it ends. */
  async keepOperator(): Promise<void> {
    let isWanted = true;
    const run = () => {
      const { child, ready } = this.#spawn(this.#configFile);
      this.#child = child;
      child.once("exit", () => {
        this.restarts++;
        if (isWanted) setTimeout(() => isWanted && run().catch(() => {}), 1000);
      });
      return ready;
    };
    this.#stopOperator = async () => {
      isWanted = false;
      await ended(this.#child!);
    };
    await run();
  }

  /** A second operator of the same namespace with a volume of its own. */
  async spawnRival(): Promise<Rival> {
    const dataDir = join(this.folder, "rival");
    const { child, ready } = this.#spawn(await this.#writeConfig(dataDir));
    ready.catch(() => {});
    return { dataDir, ready, stop: () => ended(child) };
  }

  #spawn(configFile: string): { child: ChildProcess; ready: Promise<void> } {
    const argv = [PROGRAM, "operator", "--config", configFile, "--kubeconfig", this.#operatorKubeconfig];
    const child = spawn(process.execPath, argv, { stdio: ["ignore", "pipe", "inherit"] });
    const ready = Promise.withResolvers<void>();
    child.stdout.on("data", (chunk: Buffer) => {
      if (process.env.RONDO_TEST_LOG) process.stderr.write(chunk);
      if (chunk.includes("operator is ready")) ready.resolve();
    });
    child.once("exit", (code) => ready.reject(new Error(`the operator ended with ${code}`)));
    return { child, ready: ready.promise };
  }

  /** Between operator and API server; only where make() was asked for one. */
  get cable(): Cable {
    return this.#cable!;
  }

  get #operatorKubeconfig(): string {
    return this.#cableKubeconfig ?? this.kubeconfig;
  }

  async #layCable(): Promise<void> {
    const text = await readFile(this.kubeconfig, "utf8");
    const server = /server: (\S+)/.exec(text)![1]!;
    this.#cable = await layCable(server);
    this.#cableKubeconfig = join(this.folder, "cable.kubeconfig");
    await writeFile(this.#cableKubeconfig, text.replace(server, this.#cable.url), { mode: 0o600 });
  }

  /** As a machine that loses power. */
  async killOperator(): Promise<void> {
    const exited = once(this.#child!, "exit");
    this.#child!.kill("SIGKILL");
    await exited;
  }

  async stopOperator(): Promise<void> {
    await this.#stopOperator?.();
    this.#stopOperator = undefined;
  }

  /** @param site  another one than the first of this name: with a key and a volume of its own */
  async addPlayer(name: string, behaviour: Behaviour, site = ""): Promise<Player> {
    await this.client.apply(PARTICIPANTS, {
      metadata: { name, namespace: this.namespace, labels: { team: "test" } },
      spec: { suspended: false },
    });
    const { namespace } = this;
    const invitation = await invite(this.client, { name, namespace, ttlMs: 60_000, nowMs: Date.now() });
    const player = new Player(invitation, join(this.folder, site), behaviour);
    this.players.push(player);
    await player.start();
    await this.until(async () => {
      const found = await this.client.get(PARTICIPANTS, { namespace, name });
      return (found as { status?: { connected?: boolean } }).status?.connected;
    }, `${name} is connected`);
    return player;
  }

  async createFederation(name: string, over: Partial<FederationSpecInput> = {}): Promise<void> {
    await this.client.create(FEDERATIONS, {
      metadata: { name, namespace: this.namespace },
      spec: federationSpec(this.registry.host, over) as never,
    });
  }

  async createRound(name: string, federation: string, over: object = {}): Promise<void> {
    await this.client.create(FEDERATION_ROUNDS, {
      metadata: { name, namespace: this.namespace },
      spec: { federation, ...over },
    });
  }

  async round(name: string): Promise<FederationRound | undefined> {
    return (await this.client.get(FEDERATION_ROUNDS, { namespace: this.namespace, name })) as
      | FederationRound
      | undefined;
  }

  async ended(name: string, timeoutMs = 50_000): Promise<FederationRound> {
    return this.until(
      async () => {
        const round = await this.round(name);
        return ["Succeeded", "Failed", "Cancelled"].includes(round?.status?.phase ?? "") ? round : undefined;
      },
      `${name} has ended`,
      timeoutMs,
    );
  }

  async get<T>(kind: "federations" | "adapterversions" | "participants", name: string): Promise<T | undefined> {
    const kinds = { federations: FEDERATIONS, adapterversions: ADAPTER_VERSIONS, participants: PARTICIPANTS };
    return (await this.client.get(kinds[kind], { namespace: this.namespace, name })) as T | undefined;
  }

  /** Every distinct value in an adapter that the registry holds. */
  async valuesOf(reference: string): Promise<number[]> {
    const digest = reference.slice(reference.indexOf("@") + 1);
    const pulled = await pullAdapter(this.repository("adapters/test"), digest, join(this.folder, "pulled"), 2 ** 30);
    await using file = await openSafetensors(pulled.weightsFile);
    const values = new Set<number>();
    for (const tensor of file.header.tensors)
      for await (const chunk of file.chunks(tensor)) for (const value of chunk.values) values.add(value);
    return [...values];
  }

  repository(path: string): OciRepository {
    return new OciRepository({ registry: this.registry.host, repository: path, plainHttp: true });
  }

  async until<T>(probe: () => Promise<T | undefined | false>, what: string, timeoutMs = 40_000): Promise<T> {
    const endMs = Date.now() + timeoutMs;
    for (;;) {
      const found = await probe();
      if (found) return found;
      if (Date.now() >= endMs) {
        const errors = this.players.flatMap((player) => player.errors).map(String);
        expect.fail(
          `not within ${timeoutMs} ms: ${what}; agents' errors: ${errors.join("; ") || "none"}\n${await this.#statuses()}`,
        );
      }
      await sleep(100);
    }
  }

  async #statuses(): Promise<string> {
    const lists = await Promise.all(
      [FEDERATIONS, FEDERATION_ROUNDS].map((kind) => this.client.list(kind, { namespace: this.namespace })),
    );
    return lists
      .flatMap(({ items }) => items.map((item) => `${item.metadata.name}: ${JSON.stringify(item.status)}`))
      .join("\n");
  }

  async #writeConfig(dataDir: string): Promise<string> {
    const [agents, enrolment, tasks] = await Promise.all([freePort(), freePort(), freePort()]);
    this.taskPort = tasks;
    const configFile = join(this.folder, `${basename(dataDir)}.yaml`);
    const config = {
      namespace: this.namespace,
      dataDir,
      trustDomain: "rondo.test",
      agents: { address: `127.0.0.1:${agents}`, endpoint: `127.0.0.1:${agents}` },
      enrolment: { address: `127.0.0.1:${enrolment}`, endpoint: `127.0.0.1:${enrolment}` },
      tasks: { address: `127.0.0.1:${tasks}`, service: "rondo-tasks" },
      metrics: { address: "127.0.0.1:0" },
      log: { level: process.env.RONDO_TEST_LOG ?? "info" },
    };
    await writeFile(configFile, JSON.stringify(config));
    return configFile;
  }

  /** The adapter that federations here start from (adapter.initialFrom): no kubelet is there to run an initialise Job. */
  async #pushStart(width: number): Promise<void> {
    const weights = join(this.folder, "start.safetensors");
    await writeSafetensors(weights, tensorsOf(4, width), new Map([["format", "pt"]]), function* ({ shape }) {
      yield new Float32Array(shape[0]! * shape[1]!).fill(INITIAL_VALUE);
    });
    const config = formatAdapterConfig({
      baseModel: BASE_MODEL,
      rank: 4,
      alpha: 8,
      targetModules: ["q_proj", "v_proj"],
    });
    const lineage = { federation: "elsewhere", version: 3, baseModel: BASE_MODEL };
    await pushAdapter(this.repository("start/adapter"), { weights, config, rank: 4 }, lineage);
  }
}

export function federationSpec(registry: string, over: Partial<FederationSpecInput> = {}): FederationSpecInput {
  return {
    baseModel: BASE_MODEL,
    adapter: {
      rank: 4,
      alpha: 8,
      targetModules: ["q_proj", "v_proj"],
      initialFrom: { reference: `${registry}/start/adapter:v3` },
    },
    training: { image: "trainer:test", steps: 2, resources: { gpus: 0 } },
    participants: { selector: { matchLabels: { team: "test" } }, minimum: 2 },
    deadlines: { accept: "50s", training: "50s", aggregation: "50s" },
    aggregation: { privacy: "trusted", clipNorm: "1000" },
    publish: { oci: { repository: `${registry}/adapters/test`, plainHTTP: true } },
    ...over,
  };
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill("SIGTERM");
  await exited;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}
