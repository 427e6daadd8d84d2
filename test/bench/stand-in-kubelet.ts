/**
 * What a cluster without nodes lacks: it takes every trainer pod that the Job controller makes, does the trainer's side of the task
 * API at once (fetch the parent, add fresh noise, hand it back), and reports the pod as a kubelet would.
 * Holds: everything around it is real: Job, pod, Secret, token, TLS to the agent by the certificate's own name.
 * Stands also for the Service's forwarding: a cluster IP is looked up in a table, since nobody programs one.
 */
import { randomFillSync, X509Certificate } from "node:crypto";
import { Agent, request } from "node:https";
import { setTimeout as sleep } from "node:timers/promises";
import { checkServerIdentity } from "node:tls";
import { WatchCache } from "../../operator/kube/cache.ts";
import type { KubeClient } from "../../operator/kube/client.ts";
import { isKubeFault } from "../../operator/kube/faults.ts";
import { PODS, type Pod, SECRETS, type Secret } from "../../operator/kube/resources.ts";
import { parseHeader } from "../../operator/publish/safetensors-header.ts";
import { createLogger } from "../../operator/telemetry/logger.ts";

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
  const taken = new Set<string>();
  let trained = 0;
  pods.onChange((_key, pod) => {
    const uid = pod?.metadata.uid;
    if (pod === undefined || uid === undefined || taken.has(uid) || pod.status?.phase !== "Pending") return;
    taken.add(uid);
    runPod(client, pod, portOf).then(
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
    stop: () => pods.stop(),
  };
}

async function runPod(client: KubeClient, pod: Pod, portOf: ReadonlyMap<string, number>): Promise<void> {
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
  await train(await taskOf(client, pod), portOf);
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

async function train(task: TaskAccess, portOf: ReadonlyMap<string, number>): Promise<void> {
  const port = portOf.get(task.url.hostname);
  if (port === undefined) throw new Error(`nobody stands behind ${task.url.hostname}`);
  // No keep-alive: a server may close a waiting connection at the very moment in which it is used again.
  const agent = new Agent({
    keepAlive: false,
    ca: new X509Certificate(task.ca).toString(),
    checkServerIdentity: (_host, certificate) => checkServerIdentity(task.url.hostname, certificate),
  });
  const call = (method: string, path: string, body?: Uint8Array) =>
    exchange({ agent, port, method, path, token: task.token }, body);
  try {
    await call("GET", "/v1/task");
    const adapter = await call("GET", "/v1/task/adapter");
    addNoise(adapter);
    await call("PUT", "/v1/task/adapter", adapter);
    const result = { schema: 1, examples: 100, steps: 1, tokens: 1000, trainLoss: 1 };
    await call("PUT", "/v1/task/result", Buffer.from(JSON.stringify(result)));
  } finally {
    agent.destroy();
  }
}

/** Fresh noise on every value of an F32 file: no two rounds and no two participants move the same bytes. */
function addNoise(file: Uint8Array): void {
  const length = Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));
  const { dataStart } = parseHeader(file.subarray(8, 8 + length), file.length);
  const values = new Float32Array(file.buffer, file.byteOffset + dataStart, (file.length - dataStart) / 4);
  const noise = randomFillSync(new Int32Array(values.length));
  for (let i = 0; i < values.length; i++) values[i] = values[i]! + noise[i]! * 1e-12;
}

interface Exchange {
  agent: Agent;
  port: number;
  method: string;
  path: string;
  token: string;
}

function exchange({ agent, port, method, path, token }: Exchange, body?: Uint8Array): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${token}`, ...(body && { "content-length": body.length }) };
    const sent = request({ host: "127.0.0.1", port, method, path, headers, agent }, (answer) => {
      const parts: Buffer[] = [];
      answer.on("data", (part: Buffer) => parts.push(part));
      answer.on("error", reject);
      answer.on("end", () => {
        const all = Buffer.concat(parts);
        const status = answer.statusCode ?? 0;
        if (status < 200 || status > 299)
          reject(new Error(`${method} ${path}: ${status} ${all.toString().slice(0, 300)}`));
        else resolve(aligned(all));
      });
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

/** In a buffer of its own, so that float32 views fit. */
function aligned(bytes: Buffer): Uint8Array {
  return bytes.byteOffset % 8 === 0 ? bytes : new Uint8Array(bytes);
}
