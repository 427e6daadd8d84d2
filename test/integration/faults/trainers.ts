/**
 * Kubelet and trainer of one site, or of the operator for version 0: every pod of a trainer's Job is run at once. Like rondo_trainer it comes again while the agent is away.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { TestTrainer } from "../../../operator/agent/testing/trainer.ts";
import { WatchCache } from "../../../operator/kube/cache.ts";
import type { KubeClient } from "../../../operator/kube/client.ts";
import { isKubeFault } from "../../../operator/kube/faults.ts";
import { PODS, type Pod, SECRETS, type Secret } from "../../../operator/kube/resources.ts";
import { parseHeader } from "../../../operator/publish/safetensors-header.ts";
import { createLogger } from "../../../operator/telemetry/logger.ts";

const JOB_NAME = "batch.kubernetes.io/job-name";
/** As in trainer-image/rondo_trainer/client.py, with 0 for a connection that was refused or lost. */
const REPEATED = (status: number) => [0, 401, 408, 425, 429].includes(status) || status >= 500;

export interface TrainersOptions {
  client: KubeClient;
  namespace: string;
  /** Where the agent listens, and what its certificate names. */
  port: number;
  serverName: string;
  /** What it does to the adapter that it is handed; for kind initialise it is handed none. */
  train: (adapter: Buffer) => Buffer;
  kind: "train" | "initialise";
}

export class Trainers {
  readonly #options: TrainersOptions;
  readonly #pods: WatchCache<Pod>;
  readonly #taken = new Set<string>();
  readonly #gone = new Set<string>();
  /** Trainings begun, by Job: a round trains once, whoever dies. */
  readonly begun = new Map<string, number>();
  readonly errors: unknown[] = [];

  constructor(options: TrainersOptions) {
    this.#options = options;
    const { client, namespace, kind } = options;
    const log = createLogger({ name: "trainers", level: "fatal" });
    this.#pods = new WatchCache<Pod>({ client, kind: PODS, namespace, labelSelector: `rondo.dev/kind=${kind}`, log });
    this.#pods.onChange((key, pod) => this.#see(key, pod));
  }

  async start(): Promise<void> {
    this.#pods.start();
    await this.#pods.whenSynced();
  }

  async stop(): Promise<void> {
    await this.#pods.stop();
  }

  #see(key: string, pod: Pod | undefined): void {
    if (pod === undefined) {
      this.#gone.add(key);
      return;
    }
    const uid = pod.metadata.uid ?? "";
    if (this.#taken.has(uid) || pod.status?.phase !== "Pending") return;
    this.#taken.add(uid);
    this.#run(key, pod).catch((error: unknown) => this.errors.push(error));
  }

  async #run(key: string, pod: Pod): Promise<void> {
    const job = pod.metadata.labels?.[JOB_NAME] ?? "";
    this.begun.set(job, (this.begun.get(job) ?? 0) + 1);
    const startedAt = new Date().toISOString();
    await this.#report(pod, "Running", { running: { startedAt } });
    const isGone = () => this.#gone.has(key);
    const secret = await this.#secret(`${job}-task`, isGone);
    if (!secret || !(await this.#train(secret, isGone))) return;
    const terminated = { exitCode: 0, reason: "Completed", startedAt, finishedAt: new Date().toISOString() };
    await this.#report(pod, "Succeeded", { terminated });
  }

  async #train(secret: Secret, isGone: () => boolean): Promise<boolean> {
    const { port, serverName, kind, train } = this.#options;
    const text = (key: string) => Buffer.from(secret.data?.[key] ?? "", "base64").toString("utf8");
    const trainer = new TestTrainer({ port, serverName, caPem: text("ca.crt"), token: text("token") });
    while (!isGone()) {
      const path = kind === "train" ? "/v1/task/adapter" : "/v1/task";
      const fetched = await trainer.call("GET", path).catch(() => ({ status: 0, body: Buffer.alloc(0) }));
      const status =
        fetched.status === 200 ? await trainer.deliver(train(fetched.body), RESULT).catch(() => 0) : fetched.status;
      if (status === 204) return true;
      if (!REPEATED(status)) throw new Error(`a trainer was answered ${status}`);
      await sleep(50);
    }
    return false;
  }

  /** The Secret is written after its Job: a kubelet waits for it with the volume. */
  async #secret(name: string, isGone: () => boolean): Promise<Secret | undefined> {
    const { client, namespace } = this.#options;
    while (!isGone()) {
      const secret = await client.get(SECRETS, { namespace, name });
      if (secret !== undefined) return secret;
      await sleep(30);
    }
    return undefined;
  }

  async #report(pod: Pod, phase: string, state: object): Promise<void> {
    const ready = phase === "Running";
    const status = {
      phase,
      conditions: [{ type: "PodScheduled", status: "True", lastTransitionTime: new Date().toISOString() }],
      containerStatuses: [{ name: "trainer", image: "t", imageID: "t", ready, restartCount: 0, state }],
    };
    await this.#options.client
      .patchMerge(PODS, pod.metadata, { status }, { subresource: "status" })
      .catch((error: unknown) => {
        // The Job is deleted as soon as its result is there: a real kubelet too finds its pod gone then.
        if (!isKubeFault(error, "NotFound", "Conflict")) throw error;
      });
  }
}

const RESULT = { examples: 100, steps: 1, tokens: 1000, trainLoss: 1 };

/** The adapter with `step` added to every value. */
export function moved(file: Buffer, step: number): Buffer {
  const copy = Buffer.from(file);
  const length = Number(copy.readBigUInt64LE(0));
  const { dataStart } = parseHeader(copy.subarray(8, 8 + length), copy.length);
  for (let at = dataStart; at < copy.length; at += 4) copy.writeFloatLE(copy.readFloatLE(at) + step, at);
  return copy;
}
