/**
 * How long a trainer takes from its Job to its first step: a real kubelet, the demo's image, model and text, a task API as the agent serves it.
 * Says where the time goes.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { buildTrainerJob } from "../../../operator/trainer/job.ts";
import type { Task } from "../../../operator/trainer/task.ts";
import { newTaskToken, startTaskServer, type TaskServer } from "../../../operator/trainer/task-server.ts";
import { command } from "../../cluster/commands.ts";
import { down } from "../../cluster/down.ts";
import { loadImage } from "../../cluster/images.ts";
import { binDir, type Cluster, cacheDir, clusterSet } from "../../cluster/layout.ts";
import { up } from "../../cluster/up.ts";
import type { Benchmark } from "../main.ts";
import { below, median, round } from "../report.ts";

const IMAGE = "localhost/rondo-trainer:dev";
const MODEL = join(cacheDir, "models/smollm2-135m-instruct");
const DATA = join(cacheDir, "data/computing");
const RUNS = 5;
const PATIENCE_MS = 180_000;

/** Seconds. */
interface Start {
  /** From the Job to the container's first instruction as kubelet saw it, which has whole seconds. */
  container: number;
  /** From the Job to the trainer's first call. */
  task: number;
  /** From the Job to the first step that it told of. */
  step: number;
  /** The trainer's own account. */
  ready: string;
}

export const run: Benchmark = async () => {
  const set = clusterSet("bench-startup");
  const folder = await mkdtemp(join(tmpdir(), "rondo-bench-startup-"));
  await down([], set);
  try {
    const [cluster] = (await up(["startup"], { set })) as [Cluster];
    await loadImage(cluster, IMAGE);
    const tasks = await startTaskServer({
      dataDir: join(folder, "tasks"),
      address: `${cluster.set.gateway}:0`,
      hosts: [cluster.set.gateway],
    });
    try {
      const parent = join(folder, "parent.safetensors");
      await trainer({ cluster, tasks, name: "initialise", task: await taskOf("initialise"), outputFile: parent });
      const starts: Start[] = [];
      for (let i = 1; i <= RUNS; i++) {
        const outputFile = join(folder, `${i}.safetensors`);
        const start = await trainer({
          cluster,
          tasks,
          name: `start-${i}`,
          task: await taskOf("train"),
          adapterFile: parent,
          outputFile,
        });
        console.log(`${i}/${RUNS}: first step after ${start.step.toFixed(1)} s; ${start.ready}`);
        starts.push(start);
      }
      return report(starts);
    } finally {
      await tasks.stop();
    }
  } finally {
    await down([], set);
    await rm(folder, { recursive: true, force: true });
  }
};

function report(starts: readonly Start[]) {
  const of = (part: "container" | "task" | "step") => round(median(starts.map((start) => start[part])), 1);
  const middle = [...starts].sort((a, b) => a.step - b.step)[Math.floor(starts.length / 2)]!;
  return {
    results: [
      { name: "Job to container", value: of("container"), unit: "s" },
      { name: "Job to the trainer's first call", value: of("task"), unit: "s" },
      below({ name: "Job to first step", value: of("step"), unit: "s" }, 20),
    ],
    notes: [
      `Medians of ${starts.length}; SmolLM2-135M-Instruct and 2,000 records from host paths, the environment with PyTorch mounted, page cache warm.`,
      `The trainer's own account in the median run: ${middle.ready}.`,
    ],
  };
}

async function taskOf(kind: "initialise" | "train"): Promise<Task> {
  return {
    schema: 1,
    kind,
    federation: "example.org/bench/startup",
    round: 1,
    attempt: 1,
    participant: "bench",
    seed: 1,
    baseModel: { name: "HuggingFaceTB/SmolLM2-135M-Instruct", revision: "main", digest: await digestOf(MODEL) },
    adapter: { rank: 8, alpha: 16, targetModules: ["q_proj", "v_proj"], scaling: 2 },
    training:
      kind === "train"
        ? { task: "instruction", steps: 2, batchSize: 4, sequenceLength: 64, learningRate: "0.001" }
        : null,
    learningRate: kind === "train" ? "0.001" : null,
    frozen: null,
    recordPrivacy: null,
    deadline: Date.now() + PATIENCE_MS,
  };
}

/** As `LC_ALL=C sha256sum *.safetensors | sha256sum`. */
async function digestOf(folder: string): Promise<string> {
  const whole = createHash("sha256");
  for (const name of (await readdir(folder)).filter((file) => file.endsWith(".safetensors")).sort()) {
    const one = createHash("sha256");
    await pipeline(createReadStream(join(folder, name)), one);
    whole.update(`${one.digest("hex")}  ${name}\n`);
  }
  return `sha256:${whole.digest("hex")}`;
}

async function trainer(of: {
  cluster: Cluster;
  tasks: TaskServer;
  name: string;
  task: Task;
  adapterFile?: string;
  outputFile: string;
}): Promise<Start> {
  const { cluster, tasks, name, task, adapterFile, outputFile } = of;
  const kubectl = (...args: string[]) => command(join(binDir, "kubectl"), "--kubeconfig", cluster.kubeconfig, ...args);
  const token = newTaskToken();
  const at: { fetched?: number; step?: number } = {};
  let done = () => {};
  const finished = new Promise<void>((resolve) => {
    done = resolve;
  });
  tasks.open({
    token,
    task,
    ...(adapterFile !== undefined && { adapterFile }),
    outputFile,
    maxAdapterBytes: 2 ** 26,
    onFetched: () => {
      at.fetched ??= performance.now();
    },
    onProgress: () => {
      at.step ??= performance.now();
    },
    onResult: async () => done(),
  });
  const { job, secret } = buildTrainerJob({
    name,
    namespace: "default",
    template: TEMPLATE,
    image: IMAGE,
    resources: { gpus: 0, gpuResourceName: "nvidia.com/gpu", memory: "3Gi", cpu: "500m" },
    task: { url: `https://${cluster.set.gateway}:${tasks.port}`, caPem: tasks.caPem, token },
    labels: { federation: task.federation, attempt: 1, kind: task.kind },
    activeDeadlineSeconds: PATIENCE_MS / 1000,
  });
  const [createdMs, created] = [Date.now(), performance.now()];
  await apply(kubectl, { apiVersion: "v1", kind: "List", items: [job, secret] });
  const late = AbortSignal.timeout(PATIENCE_MS);
  await Promise.race([
    finished,
    new Promise((_, reject) => late.addEventListener("abort", () => reject(new Error(`${name} handed nothing back`)))),
  ]);
  const pod = JSON.parse(await kubectl("get", "pods", "-l", `job-name=${name}`, "-o", "json")).items[0];
  const status = pod.status.containerStatuses[0].state;
  const startedMs = Date.parse((status.running ?? status.terminated).startedAt);
  const log = await kubectl("logs", `job/${name}`);
  tasks.close(token);
  await kubectl("delete", "job", name, "--wait=false");
  return {
    container: Math.max(0, startedMs - createdMs) / 1000,
    task: ((at.fetched ?? Number.NaN) - created) / 1000,
    step: ((at.step ?? Number.NaN) - created) / 1000,
    ready: /ready after .*/.exec(log)?.[0] ?? "",
  };
}

async function apply(kubectl: (...args: string[]) => Promise<string>, manifests: object): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "rondo-bench-manifests-"));
  try {
    await writeFile(join(folder, "job.json"), JSON.stringify(manifests));
    await kubectl("create", "-f", join(folder, "job.json"));
  } finally {
    await rm(folder, { recursive: true });
  }
}

const hostPath = (name: string, path: string) => ({ name, hostPath: { path, type: "Directory" } });

const TEMPLATE = {
  spec: {
    containers: [
      {
        name: "trainer",
        imagePullPolicy: "Never",
        command: ["/opt/rondo/venv/bin/python", "-m", "rondo_trainer"],
        env: [{ name: "RONDO_HELD_OUT_MAX", value: "24" }],
        volumeMounts: [
          { name: "venv", mountPath: "/opt/rondo/venv", readOnly: true },
          { name: "model", mountPath: "/rondo/model", readOnly: true },
          { name: "data", mountPath: "/rondo/data", readOnly: true },
        ],
      },
    ],
    volumes: [hostPath("venv", join(cacheDir, "venv")), hostPath("model", MODEL), hostPath("data", DATA)],
  },
};
