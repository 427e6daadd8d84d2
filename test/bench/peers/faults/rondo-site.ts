/**
 * A site of Rondo on one machine: the agent's own program, and the kubelet and trainer that a cluster would have. The training is played as
 * the peers' clients play theirs (scenario.ts); all else is real: Job, pod, Secret, token, the task API over TLS.
 */
import { randomFillSync } from "node:crypto";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { TestTrainer } from "../../../../operator/agent/testing/trainer.ts";
import { invite } from "../../../../operator/cli/invite.ts";
import { WatchCache } from "../../../../operator/kube/cache.ts";
import { isKubeFault } from "../../../../operator/kube/faults.ts";
import { PARTICIPANTS, PODS, type Pod, SECRETS } from "../../../../operator/kube/resources.ts";
import { parseHeader } from "../../../../operator/publish/safetensors-header.ts";
import { createLogger } from "../../../../operator/telemetry/logger.ts";
import { eventually, freePorts, isReady, makeService, type Place, startProgram } from "../../programs.ts";
import { FAULT_ROUND, type Fault, TRAINING_S } from "./scenario.ts";

const JOB_NAME = "batch.kubernetes.io/job-name";
const SIGKILLED = 137;

export interface SiteOptions {
  place: Place;
  /** From 1. */
  number: number;
  fault: Fault;
  marks: string;
}

export class RondoSite {
  readonly #options: SiteOptions;
  readonly #home: string;
  readonly #namespace: string;
  readonly #config: object;
  readonly #ports: { tasks: number; metrics: number };
  readonly #pods: WatchCache<Pod>;
  readonly #taken = new Set<string>();
  #running = new Map<string, Pod>();
  #agent: ReturnType<typeof startProgram> | undefined;
  #isUp = true;

  private constructor(options: SiteOptions, namespace: string, ports: [number, number]) {
    const { place, number } = options;
    const [tasks, metrics] = ports;
    this.#options = options;
    this.#namespace = namespace;
    this.#home = join(place.folder, `site-${number}`);
    this.#ports = { tasks, metrics };
    this.#config = {
      namespace,
      dataDir: join(this.#home, "data"),
      invitation: join(this.#home, "invitation.json"),
      tasks: { address: `127.0.0.1:${tasks}`, service: "rondo-agent-tasks" },
      metrics: { address: `127.0.0.1:${metrics}` },
      policy: { federations: ["*"], images: ["*"], gpus: { max: 0 } },
      podTemplate: { spec: { terminationGracePeriodSeconds: 0 } },
      log: { level: "info" },
    };
    const log = createLogger({ name: "kubelet", level: "fatal" });
    this.#pods = new WatchCache<Pod>({
      client: place.api.client,
      kind: PODS,
      namespace,
      labelSelector: "rondo.dev/kind=train",
      log,
    });
    this.#pods.onChange((_key, pod) => pod && this.#see(pod));
  }

  /** Invited, started, connected. */
  static async make(options: SiteOptions): Promise<RondoSite> {
    const { place, number } = options;
    const { client } = place.api;
    const name = `site-${number}`;
    const namespace = await place.api.createNamespace(name);
    await makeService(place.api, namespace, "rondo-agent-tasks", 8445);
    await client.create(PARTICIPANTS, {
      metadata: { name, namespace: place.namespace, labels: { bench: "yes" } },
      spec: {},
    });
    const site = new RondoSite(options, namespace, (await freePorts(2)) as [number, number]);
    mkdirSync(site.#home, { recursive: true });
    const invitation = await invite(client, { name, namespace: place.namespace, ttlMs: 600_000, nowMs: Date.now() });
    writeFileSync(join(site.#home, "invitation.json"), JSON.stringify(invitation), { mode: 0o600 });
    await site.startAgent();
    site.#pods.start();
    await site.#pods.whenSynced();
    return site;
  }

  async startAgent(): Promise<void> {
    this.#agent = startProgram(this.#options.place, this.#home, "agent", this.#config);
    await eventually(`the agent of site ${this.#options.number} is ready`, 60, () => isReady(this.#ports.metrics), 200);
  }

  /** Agent and trainers at once, as a power cut would. */
  kill(): void {
    this.#isUp = false;
    this.#agent?.kill("SIGKILL");
  }

  /** The agent again; kubelet finds its containers dead. */
  async startAgain(): Promise<void> {
    this.#isUp = true;
    const died = [...this.#running.values()];
    this.#running = new Map();
    await Promise.all(died.map((pod) => this.#report(pod, "Failed", SIGKILLED)));
    await this.startAgent();
  }

  async stop(): Promise<void> {
    await this.#pods.stop();
  }

  #see(pod: Pod): void {
    const uid = pod.metadata.uid ?? "";
    if (!this.#isUp || this.#taken.has(uid) || pod.status?.phase !== "Pending") return;
    this.#taken.add(uid);
    this.#run(uid, pod).catch((error: unknown) => console.error(`site ${this.#options.number}:`, error));
  }

  async #run(uid: string, pod: Pod): Promise<void> {
    this.#running.set(uid, pod);
    await this.#report(pod, "Running");
    const hasDelivered = await this.#train(pod, () => this.#isUp && this.#running.has(uid));
    if (!hasDelivered) return;
    this.#running.delete(uid);
    await this.#report(pod, "Succeeded", 0);
  }

  /** @returns false when it was killed on the way */
  async #train(pod: Pod, isAlive: () => boolean): Promise<boolean> {
    const { number, fault, marks } = this.#options;
    const job = pod.metadata.labels?.[JOB_NAME] ?? "";
    const isFaultRound = job.includes(`-r${FAULT_ROUND}-`);
    const mark = (what: string) => isFaultRound && writeFileSync(join(marks, `${what}-${number}`), "");
    const isAgain = existsSync(join(marks, `training-${number}`));
    const isKilledHere = isFaultRound && number === 1 && fault.startsWith("killedBefore") && !isAgain;
    const trainer = await this.#trainerOf(job);
    const adapter = await trainer.call("GET", "/v1/task/adapter");
    mark("training");
    await pause(isKilledHere ? 600 : isFaultRound ? TRAINING_S[number - 1]! : 1, isAlive);
    if (!isAlive()) return false;
    const isSpoiled = isFaultRound && number === 1 && fault === "nan";
    while (isAlive()) {
      const status = await trainer.deliver(withNoise(adapter.body, isSpoiled), { steps: 1 }).catch(() => 0);
      if (status === 0) {
        await sleep(500);
        continue;
      }
      mark("trained");
      return true;
    }
    return false;
  }

  async #trainerOf(job: string): Promise<TestTrainer> {
    const { client } = this.#options.place.api;
    for (let tries = 0; tries < 600; tries++) {
      const secret = await client.get(SECRETS, { namespace: this.#namespace, name: `${job}-task` });
      const text = (key: string) => Buffer.from(secret?.data?.[key] ?? "", "base64").toString("utf8");
      const serverName = `rondo-agent-tasks.${this.#namespace}.svc`;
      if (secret)
        return new TestTrainer({ port: this.#ports.tasks, serverName, caPem: text("ca.crt"), token: text("token") });
      await sleep(50);
    }
    throw new Error(`Secret ${job}-task does not come`);
  }

  async #report(pod: Pod, phase: "Running" | "Succeeded" | "Failed", exitCode?: number): Promise<void> {
    const now = new Date().toISOString();
    const state =
      exitCode === undefined
        ? { running: { startedAt: now } }
        : { terminated: { exitCode, reason: exitCode === 0 ? "Completed" : "Error", startedAt: now, finishedAt: now } };
    const container = { name: "trainer", image: "t", imageID: "t", ready: phase === "Running", restartCount: 0, state };
    const conditions = [{ type: "PodScheduled", status: "True", lastTransitionTime: now }];
    await this.#options.place.api.client
      .patchMerge(
        PODS,
        pod.metadata,
        { status: { phase, conditions, containerStatuses: [container] } },
        { subresource: "status" },
      )
      .catch((error: unknown) => {
        // The Job is deleted as soon as its result is there: a real kubelet too finds its pod gone then.
        if (!isKubeFault(error, "NotFound", "Conflict")) throw error;
      });
  }
}

async function pause(seconds: number, isAlive: () => boolean): Promise<void> {
  for (const endMs = Date.now() + seconds * 1000; Date.now() < endMs && isAlive(); ) await sleep(50);
}

/** Fresh noise on every value of an F32 file; or NaN in each. */
function withNoise(file: Buffer, isSpoiled: boolean): Buffer {
  const copy = Buffer.from(file);
  const { dataStart } = parseHeader(copy.subarray(8, 8 + Number(copy.readBigUInt64LE(0))), copy.length);
  const noise = randomFillSync(new Int32Array((copy.length - dataStart) / 4));
  for (let i = 0; i < noise.length; i++) {
    const at = dataStart + 4 * i;
    copy.writeFloatLE(isSpoiled ? Number.NaN : copy.readFloatLE(at) + noise[i]! * 1e-12, at);
  }
  return copy;
}
