/**
 * One site for tests: a namespace on a real API server, a real agent (in this process or in one that can be killed), and the real transport
 * of an operator whose coordinator only remembers. The test itself is kubelet (kubelet.ts) and trainer (operator/agent/testing/trainer.ts).
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pino } from "pino";
import type { SitePolicy } from "../../../operator/agent/config.ts";
import { agentConfigSchema } from "../../../operator/agent/config.ts";
import { type RunningAgent, startAgent } from "../../../operator/agent/run.ts";
import { makePlan, writeAdapter } from "../../../operator/agent/testing/plan.ts";
import { TestTrainer } from "../../../operator/agent/testing/trainer.ts";
import { fromKubeconfig } from "../../../operator/kube/credentials.ts";
import { SECRETS, SERVICES } from "../../../operator/kube/resources.ts";
import { openSafetensors } from "../../../operator/publish/safetensors.ts";
import type { Plan } from "../../../operator/round/plan.ts";
import type { AgentReport } from "../../../operator/transport/coordinator.ts";
import { signPlan } from "../../../operator/transport/plan.ts";
import { generateRoundKeys, openRecords } from "../../../operator/transport/sealing.ts";
import { kubeconfigOfChart } from "../charts/role-of-chart.ts";
import type { SharedApiServer } from "../shared-api-server.ts";
import { TestOperator } from "../transport/operator.ts";
import { TestKubelet } from "./kubelet.ts";

/** Of a site that is alone with its operator. */
export const participant = "clinic-a";

const defaultPolicy = {
  federations: ["*"],
  images: ["registry.example/*"],
  privacy: ["trusted"] as Array<"trusted">,
  minParticipants: 2,
  gpus: { max: 1 },
};

interface Handle {
  tasksPort: number;
  metricsPort: number;
  adminSocket: string;
}

export class Site {
  readonly api: SharedApiServer;
  /** With the rights that the chart gives an agent, and no more. */
  readonly kubeconfig: string;
  readonly namespace: string;
  readonly participant: string;
  readonly operator: TestOperator;
  readonly kubelet: TestKubelet;
  readonly folder: string;
  readonly keys: Awaited<ReturnType<typeof generateRoundKeys>>;
  readonly config: ReturnType<typeof agentConfigSchema.parse>;
  parent = { sha256: "", byteLength: 0 };
  #running: RunningAgent | undefined;
  #process: ChildProcess | undefined;
  #handle: Handle | undefined;

  private constructor(
    parts: Pick<Site, "api" | "kubeconfig" | "namespace" | "participant" | "operator" | "folder" | "keys"> & {
      policy: Partial<SitePolicy>;
    },
  ) {
    this.api = parts.api;
    this.kubeconfig = parts.kubeconfig;
    this.namespace = parts.namespace;
    this.participant = parts.participant;
    this.operator = parts.operator;
    this.folder = parts.folder;
    this.keys = parts.keys;
    this.kubelet = new TestKubelet(parts.api.client, parts.namespace);
    this.config = agentConfigSchema.parse({
      namespace: parts.namespace,
      dataDir: join(parts.folder, "data"),
      invitation: join(parts.folder, "invitation.json"),
      tasks: { address: "127.0.0.1:0" },
      metrics: { address: "127.0.0.1:0" },
      policy: { ...defaultPolicy, ...parts.policy },
      podTemplate: {
        spec: { containers: [{ name: "trainer", command: ["train"] }], terminationGracePeriodSeconds: 1 },
      },
      log: { level: "warn" },
    });
  }

  /** @param others  the operator that several sites share, and which of them this is */
  static async open(
    api: SharedApiServer,
    policy: Partial<SitePolicy> = {},
    others: { operator?: TestOperator; participant?: string } = {},
  ): Promise<Site> {
    const folder = await mkdtemp(join(tmpdir(), "rondo-site-"));
    await mkdir(join(folder, "data"));
    const [namespace, operator, keys] = await Promise.all([
      api.createNamespace("agent"),
      others.operator ?? TestOperator.start(),
      generateRoundKeys(),
    ]);
    const kubeconfig = await kubeconfigOfChart("rondo-agent", { administrator: api.kubeconfig, namespace, folder });
    const name = others.participant ?? participant;
    const site = new Site({ api, kubeconfig, namespace, participant: name, operator, folder, keys, policy });
    await writeFile(join(folder, "invitation.json"), JSON.stringify(operator.invite(name)));
    await api.client.create(SERVICES, {
      metadata: { namespace, name: "rondo-agent-tasks" },
      spec: { selector: { app: "rondo-agent" }, ports: [{ port: 8445 }] },
    });
    const parent = join(folder, "v0.safetensors");
    site.parent = await writeAdapter(parent, () => 1);
    operator.coordinator.adapters.set(site.parent.sha256, parent);
    return site;
  }

  async close(): Promise<void> {
    await this.stopAgent();
    await this.operator.stop();
    await this.remove();
  }

  /** What this site alone has on disk. */
  async remove(): Promise<void> {
    await rm(this.folder, { recursive: true });
  }

  async startAgent(): Promise<void> {
    this.#running = await startAgent(this.config, {
      credentials: fromKubeconfig(this.kubeconfig),
      instance: "rondo-agent-0",
      version: "0.1.0",
      log: pino({ level: "silent" }),
      onLost: () => {},
      reconnect: { firstMs: 20, mostMs: 200 },
    });
    this.#handle = this.#running;
    await this.connected();
  }

  /** In a process of its own, which can be killed at any instruction. */
  async startAgentProcess(): Promise<void> {
    const config = join(this.folder, "agent.json");
    await writeFile(config, JSON.stringify(this.config));
    const script = join(import.meta.dirname, "agent-process.ts");
    // It ends with the test process, however that ends.
    const command = ["--pdeathsig", "KILL", process.execPath, script, config, this.kubeconfig];
    this.#process = spawn("setpriv", command, { stdio: ["ignore", "pipe", "inherit"] });
    for await (const line of createInterface({ input: this.#process.stdout! })) {
      if (!line.includes("tasksPort")) continue;
      this.#handle = JSON.parse(line) as Handle;
      break;
    }
    await this.connected();
  }

  /** SIGKILL: no line of its code runs any more. */
  async killAgentProcess(): Promise<void> {
    const gone = once(this.#process!, "exit");
    this.#process!.kill("SIGKILL");
    await gone;
    this.#process = undefined;
    await this.until(() => this.operator.server.session(this.participant) === undefined, "the operator sees it gone");
  }

  async stopAgent(): Promise<void> {
    if (this.#process) await this.killAgentProcess();
    await this.#running?.stop();
    this.#running = undefined;
  }

  get agent(): Handle {
    if (!this.#handle) throw new Error("no agent is running");
    return this.#handle;
  }

  /** The plan of a round, sent to the agent. */
  plan(change: Partial<Plan> = {}, deadlinesMs = { accept: 60_000, training: 120_000, aggregation: 180_000 }): Plan {
    const identity = Buffer.from(this.operator.coordinator.members.get(this.participant)?.identity ?? "").toString(
      "base64",
    );
    const nowMs = Date.now();
    const deadlines = {
      accept: nowMs + deadlinesMs.accept,
      training: nowMs + deadlinesMs.training,
      aggregation: nowMs + deadlinesMs.aggregation,
    };
    return makePlan(
      {
        participant: this.participant,
        identity,
        parentDigest: this.parent.sha256,
        parentBytes: this.parent.byteLength,
        sealingKey: Buffer.from(this.keys.publicKey).toString("base64"),
        nowMs,
      },
      { federation: "demo.rondo.dev/rondo/notes", roundName: "notes-r1", deadlines, ...change },
    );
  }

  send(plan: Plan): { planHash: Uint8Array } {
    const { signed, planHash } = signPlan(plan, this.operator.planKey.privateKey);
    this.operator.server.session(this.participant)!.sendPlan(signed);
    return { planHash };
  }

  cancel(plan: Plan, reason: string, message: string): void {
    const { federation, round, attempt, purpose } = plan;
    const work = { federation, round, attempt, purpose, participant: this.participant, step: "cancel" };
    this.operator.server.session(this.participant)!.sendCancellation(work, reason, message);
  }

  /** What the agent reported: kinds, and for status the state. */
  get said(): string[] {
    return this.reports.map((report) => (report.kind === "status" ? report.body.state : report.kind));
  }

  get reports(): AgentReport[] {
    return this.operator.coordinator.reports
      .filter((one) => one.participant === this.participant)
      .map(({ report }) => report);
  }

  failure(): { reason: string; message: string } | undefined {
    const found = this.reports.find(({ kind }) => kind === "fail" || kind === "refuse");
    return (
      found && {
        reason: (found.body as { reason: string }).reason,
        message: (found.body as { message: string }).message,
      }
    );
  }

  connected(): Promise<void> {
    return this.until(() => this.operator.server.session(this.participant) !== undefined, "connected");
  }

  /** The Job's trainer, with what its pod would find under /rondo/task. */
  async trainer(job: string): Promise<TestTrainer> {
    const secret = await this.api.client.get(SECRETS, { namespace: this.namespace, name: `${job}-task` });
    const read = (key: string) => Buffer.from(secret?.data?.[key] ?? "", "base64").toString();
    const serverName = `rondo-agent-tasks.${this.namespace}.svc`;
    return new TestTrainer({ port: this.agent.tasksPort, caPem: read("ca.crt"), token: read("token"), serverName });
  }

  async adapter(valueAt: (index: number) => number, table?: Plan["tensors"]): Promise<Buffer> {
    const file = join(this.folder, "from-trainer.safetensors");
    await writeAdapter(file, valueAt, table);
    return readFile(file);
  }

  /** What the operator reads in the nth upload: the delta's values and its weight. */
  async contribution(planHash: Uint8Array, index = 0): Promise<{ values: Set<number>; weight: string | undefined }> {
    const { file } = this.operator.coordinator.uploads[index]!;
    const plain: Uint8Array[] = [];
    for await (const record of openRecords(file, {
      planHash,
      participant: this.participant,
      privateKey: this.keys.privateKey,
    }))
      plain.push(record);
    const opened = join(this.folder, "opened.safetensors");
    await writeFile(opened, Buffer.concat(plain));
    await using delta = await openSafetensors(opened);
    const values = new Set<number>();
    for (const tensor of delta.header.tensors) {
      for await (const chunk of delta.chunks(tensor)) for (const value of chunk.values) values.add(value);
    }
    return { values, weight: delta.header.metadata.get("weight") };
  }

  async until(condition: () => boolean | Promise<boolean>, what: string, limitMs = 20_000): Promise<void> {
    const endsAt = Date.now() + limitMs;
    while (!(await condition())) {
      if (Date.now() > endsAt)
        throw new Error(
          `did not happen: ${what}; said so far: ${this.said.join(" ")} ${JSON.stringify(this.failure())}`,
        );
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** No Job, no pod, no task Secret of any round. */
  async nothingLeft(): Promise<void> {
    await this.until(async () => {
      const [jobs, pods, secrets] = await Promise.all([
        this.kubelet.jobs(),
        this.kubelet.pods(),
        this.kubelet.secretNames(),
      ]);
      return jobs.length + pods.length + secrets.length === 0;
    }, "no Job, pod or Secret left behind");
  }
}
