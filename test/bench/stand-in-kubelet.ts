/**
 * What a cluster without nodes lacks: it takes every trainer pod that the Job controller makes, does the trainer's side of the task
 * API at once (stand-in-trainer.ts: fetch the parent, add fresh noise, hand it back), and reports the pod as a kubelet would.
 * Holds: everything around it is real: Job, pod, Secret, token, TLS to the agent by the certificate's own name.
 * Stands also for the Service's forwarding: a cluster IP is looked up in a table, since nobody programs one.
 */
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { WatchCache } from "../../operator/kube/cache.ts";
import type { KubeClient } from "../../operator/kube/client.ts";
import { isKubeFault } from "../../operator/kube/faults.ts";
import { PODS, type Pod, SECRETS, type Secret } from "../../operator/kube/resources.ts";
import { createLogger } from "../../operator/telemetry/logger.ts";
import type { TrainerAnswer, TrainerTask } from "./stand-in-trainer.ts";

export const NODE = "bench";
const JOB_NAME = "batch.kubernetes.io/job-name";

export interface StandInKubelet {
  /** Pods that ended well. */
  readonly trained: number;
  stop(): Promise<void>;
}

/** @param portOf  the loopback port behind a Service's cluster IP */
export async function startStandInKubelet(
  client: KubeClient,
  portOf: ReadonlyMap<string, number>,
): Promise<StandInKubelet> {
  const log = createLogger({ name: "stand-in-kubelet", level: "error" });
  const pods = new WatchCache<Pod>({ client, kind: PODS, labelSelector: "rondo.dev/kind=train", log });
  const trainers = [...portOf].map(([host, port]) => ({ host, port, worker: newTrainer() }));
  const taken = new Set<string>();
  let trained = 0;
  pods.onChange((_key, pod) => {
    const uid = pod?.metadata.uid;
    if (pod === undefined || uid === undefined || taken.has(uid) || pod.status?.phase !== "Pending") return;
    taken.add(uid);
    runPod(client, pod, trainers).then(
      () => trained++,
      (error: unknown) => console.error(`stand-in kubelet: ${pod.metadata.name}:`, error),
    );
  });
  pods.start();
  await pods.whenSynced();
  return {
    get trained() {
      return trained;
    },
    async stop() {
      await pods.stop();
      await Promise.all(trainers.map(({ worker }) => worker.terminate()));
    },
  };
}

/** A site's trainer, and where its agent really listens. A site has one pod at a time. */
interface SiteTrainer {
  host: string;
  port: number;
  worker: Worker;
}

function newTrainer(): Worker {
  return new Worker(new URL("./stand-in-trainer.ts", import.meta.url));
}

async function train({ url, ca, token }: TaskAccess, trainers: SiteTrainer[]): Promise<void> {
  const trainer = trainers.find(({ host }) => host === url.hostname);
  if (trainer === undefined) throw new Error(`nobody stands behind ${url.hostname}`);
  const answered = once(trainer.worker, "message");
  trainer.worker.postMessage({ host: trainer.host, port: trainer.port, ca, token } satisfies TrainerTask);
  const [answer] = (await answered) as [TrainerAnswer];
  if (answer.kind === "failed") throw new Error(answer.message);
}

async function runPod(client: KubeClient, pod: Pod, trainers: SiteTrainer[]): Promise<void> {
  const { name, namespace = "" } = pod.metadata;
  const startedAt = new Date().toISOString();
  const report = (phase: string, state: object) =>
    client
      .patchMerge(PODS, { name, namespace }, { status: podStatus(phase, state, startedAt) }, { subresource: "status" })
      .catch((error: unknown) => {
        // The Job is deleted as soon as its result is there: a real kubelet too finds its pod gone then.
        if (!isKubeFault(error, "NotFound", "Conflict")) throw error;
      });
  await report("Running", { running: { startedAt } });
  await train(await taskOf(client, pod), trainers);
  await report("Succeeded", {
    terminated: { exitCode: 0, reason: "Completed", startedAt, finishedAt: new Date().toISOString() },
  });
}

function podStatus(phase: string, state: object, startedAt: string): object {
  const ready = phase === "Running";
  const conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map((type) => ({
    type,
    status: ready || type === "PodScheduled" || type === "Initialized" ? "True" : "False",
    lastTransitionTime: startedAt.replace(/\.\d+/, ""),
  }));
  const container = { name: "trainer", image: "bench", imageID: "bench", ready, restartCount: 0, state };
  return { phase, startTime: startedAt.replace(/\.\d+/, ""), conditions, containerStatuses: [container] };
}

interface TaskAccess {
  url: URL;
  ca: string;
  token: string;
}

async function taskOf(client: KubeClient, pod: Pod): Promise<TaskAccess> {
  const namespace = pod.metadata.namespace ?? "";
  const job = pod.metadata.labels?.[JOB_NAME] ?? "";
  const secret = await secretOf(client, { namespace, name: `${job}-task` });
  const env = pod.spec?.containers[0]?.env ?? [];
  const text = (key: string) => Buffer.from(secret.data?.[key] ?? "", "base64").toString("utf8");
  return {
    url: new URL(env.find((variable) => variable.name === "RONDO_TASK_URL")?.value ?? ""),
    ca: text("ca.crt"),
    token: text("token"),
  };
}

/** The Secret is written after its Job: a kubelet waits for it with the volume. */
async function secretOf(client: KubeClient, ref: { namespace: string; name: string }): Promise<Secret> {
  for (let tries = 0; tries < 600; tries++) {
    const secret = await client.get(SECRETS, ref);
    if (secret !== undefined) return secret;
    await sleep(50);
  }
  throw new Error(`Secret ${ref.name} does not come`);
}
