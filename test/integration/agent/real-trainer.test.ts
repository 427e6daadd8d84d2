/**
 * The trainer that we ship, with the real libraries and a real (small) model, against the real task API: initialise, train in a round, evaluate.
 * The test is kubelet: it starts the pod's process on this machine, with the environment of the Job's pod. Pods run in test/e2e.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { askAgent } from "../../../operator/agent/local.ts";
import type { RoundResult } from "../../../operator/agent/results.ts";
import { type Job, SECRETS } from "../../../operator/kube/resources.ts";
import { openSafetensors } from "../../../operator/publish/safetensors.ts";
import type { Plan } from "../../../operator/round/plan.ts";
import type { HeldOut, Result, Task } from "../../../operator/trainer/task.ts";
import { newTaskToken, startTaskServer } from "../../../operator/trainer/task-server.ts";
import { type SharedApiServer, sharedApiServer } from "../shared-api-server.ts";
import { participant, Site } from "./site.ts";

const repository = join(import.meta.dirname, "../../..");
const python = join(process.env.RONDO_CACHE ?? join(homedir(), ".cache/rondo"), "venv/bin/python");
const model = join(repository, "test/models/tiny-llama");
const isSetUp = existsSync(python) && existsSync(join(model, "model.safetensors"));

const adapter = { rank: 4, alpha: 8, targetModules: ["q_proj", "v_proj"] };
const job = `notes-r1-${participant}-1`;
let api: SharedApiServer;
let site: Site;
let tensors: Plan["tensors"];
let baseModel: Plan["baseModel"];
let trained: string;

beforeAll(async () => {
  if (!isSetUp) return;
  api = await sharedApiServer();
  site = await Site.open(api);
  await site.startAgent();
  baseModel = { name: "tiny-llama", revision: "main", digest: await modelDigest() };
  await mkdir(join(site.folder, "texts"));
  const records = Array.from({ length: 60 }, (_, i) => ({
    prompt: `What is ${i}?`,
    completion: `It is the number ${i}, after ${i - 1}.`,
  }));
  await writeFile(
    join(site.folder, "texts/notes.jsonl"),
    records.map((record) => `${JSON.stringify(record)}\n`).join(""),
  );
});
afterAll(() => site?.close());

/** As the Federation's digest is defined: of what `LC_ALL=C sha256sum *.safetensors` prints. */
async function modelDigest(): Promise<string> {
  const files = (await readdir(model)).filter((name) => name.endsWith(".safetensors")).sort();
  const sum = createHash("sha256");
  for (const name of files) {
    sum.update(
      `${createHash("sha256")
        .update(await readFile(join(model, name)))
        .digest("hex")}  ${name}\n`,
    );
  }
  return `sha256:${sum.digest("hex")}`;
}

function start(env: Record<string, string>, out: string): ChildProcess {
  return spawn(python, ["-m", "rondo_trainer"], {
    stdio: ["ignore", "inherit", "inherit"],
    env: {
      PATH: process.env.PATH,
      HOME: site.folder,
      PYTHONPATH: join(repository, "trainer-image"),
      RONDO_MODEL: model,
      RONDO_DATA: join(site.folder, "texts"),
      RONDO_OUT: join(site.folder, out),
      RONDO_THREADS: "1",
      ...env,
    },
  });
}

/** Like kubelet: the pod's environment, the Secret's files, and the exit code. The Service's address becomes this machine's. */
async function runPod(name: string): Promise<number> {
  const made = await site
    .until(async () => (await site.kubelet.jobs()).some(({ metadata }) => metadata.name === name), name)
    .then(async () => (await site.kubelet.jobs()).find(({ metadata }) => metadata.name === name) as Job);
  await site.kubelet.run(name);
  const secret = await api.client.get(SECRETS, { namespace: site.namespace, name: `${name}-task` });
  const files = {
    RONDO_TASK_CA: join(site.folder, `${name}.ca`),
    RONDO_TASK_TOKEN_FILE: join(site.folder, `${name}.token`),
  };
  await writeFile(files.RONDO_TASK_CA, Buffer.from(secret!.data!["ca.crt"]!, "base64"));
  await writeFile(files.RONDO_TASK_TOKEN_FILE, Buffer.from(secret!.data!.token!, "base64"));
  const container = made.spec!.template.spec!.containers[0]!;
  const env = Object.fromEntries(container.env!.map((entry) => [entry.name, entry.value ?? ""]));
  const pod = start(
    {
      ...env,
      HOME: site.folder,
      HF_HOME: site.folder,
      ...files,
      RONDO_TASK_URL: `https://127.0.0.1:${site.agent.tasksPort}`,
    },
    name,
  );
  const [exitCode] = (await once(pod, "exit")) as [number];
  return exitCode;
}

test.runIf(isSetUp)(
  "initialise makes version 0 from the model's configuration, B all zeros",
  async () => {
    const tasks = await startTaskServer({
      dataDir: join(site.folder, "tasks"),
      address: "127.0.0.1:0",
      hosts: ["127.0.0.1"],
    });
    const token = newTaskToken();
    const outputFile = join(site.folder, "v0.safetensors");
    await rm(outputFile, { force: true });
    const done = Promise.withResolvers<Result>();
    const task: Task = {
      schema: 1,
      kind: "initialise",
      federation: "demo.rondo.dev/rondo/notes",
      round: 0,
      attempt: 1,
      participant: "operator",
      seed: 7,
      baseModel,
      adapter: { ...adapter, scaling: adapter.alpha / adapter.rank },
      training: null,
      learningRate: null,
      frozen: null,
      recordPrivacy: null,
      deadline: Date.now() + 120_000,
    };
    tasks.open({
      token,
      task,
      outputFile,
      maxAdapterBytes: 16 << 20,
      onResult: async (result) => done.resolve(result),
    });
    const files = {
      RONDO_TASK_CA: join(site.folder, "init.ca"),
      RONDO_TASK_TOKEN_FILE: join(site.folder, "init.token"),
    };
    await writeFile(files.RONDO_TASK_CA, tasks.caPem);
    await writeFile(files.RONDO_TASK_TOKEN_FILE, token);
    const [exitCode] = await once(
      start({ ...files, RONDO_TASK_URL: `https://127.0.0.1:${tasks.port}` }, "init"),
      "exit",
    );
    expect(exitCode).toBe(0);
    expect(await done.promise).toMatchObject({ steps: 0 });
    await tasks.stop();
    const bytes = await readFile(outputFile);
    site.parent = { sha256: createHash("sha256").update(bytes).digest("hex"), byteLength: bytes.length };
    site.operator.coordinator.adapters.set(site.parent.sha256, outputFile);
    await using v0 = await openSafetensors(outputFile);
    tensors = v0.header.tensors
      .map(({ name, shape }) => ({ name, shape: [...shape] }))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
    expect(tensors.length % 2).toBe(0);
    expect(tensors[0]!.name).toMatch(/^base_model\.model\..*lora_A\.weight$/);
    for (const tensor of v0.header.tensors.filter(({ name }) => name.includes("lora_B"))) {
      for await (const { values } of v0.chunks(tensor)) expect(values.every((value) => value === 0)).toBe(true);
    }
  },
  180_000,
);

test.runIf(isSetUp)(
  "a round's task is trained, and the contribution is what the plan's tensor table says",
  async () => {
    const plan = site.plan({ baseModel, adapter, tensors });
    const training = { ...plan.training, steps: 3, batchSize: 2, learningRate: "0.01" };
    const { planHash } = site.send({ ...plan, training });
    expect(await runPod(job)).toBe(0);
    await site.until(() => site.operator.coordinator.uploads.length > 0, "contributed");
    const { values } = await site.contribution(planHash);
    expect(values.size).toBeGreaterThan(100);
    await site.nothingLeft();
    const [result] = await askAgent<RoundResult[]>(site.agent.adminSocket, "GET", "/v1/results");
    expect(result).toMatchObject({
      state: "Contributed",
      heldOut: { tokens: expect.any(Number), parentLoss: expect.any(Number), loss: expect.any(Number) },
    });
    expect(result!.heldOut!.loss).toBeLessThan(result!.heldOut!.parentLoss!);
    const steps = site.reports.flatMap(({ kind, body }) =>
      kind === "status" && "progressSteps" in body ? [body.progressSteps] : [],
    );
    expect(steps).toContain(3);
    trained = join(site.folder, job, "adapter/adapter_model.safetensors");
  },
  180_000,
);

test.runIf(isSetUp)(
  "the site measures an adapter on its own held-out text",
  async () => {
    const bytes = await readFile(trained);
    const digest = createHash("sha256").update(bytes).digest("hex");
    site.operator.coordinator.adapters.set(digest, trained);
    const answered = askAgent<HeldOut>(site.agent.adminSocket, "POST", "/v1/evaluate", {
      candidate: `sha256:${digest}`,
    });
    answered.catch(() => {});
    await site.until(async () => (await site.kubelet.jobs()).length === 1, "the evaluation's Job");
    expect(await runPod((await site.kubelet.jobs())[0]!.metadata.name)).toBe(0);
    const { parentLoss, loss } = await answered;
    expect(loss).toBeLessThan(parentLoss!);
  },
  180_000,
);

test.runIf(isSetUp)(
  "another base model ends with its own exit code",
  async () => {
    const other = { ...baseModel, digest: `sha256:${"0".repeat(64)}` };
    const plan = site.plan({ round: 2, roundName: "notes-r2", baseModel: other, adapter, tensors });
    site.send(plan);
    const name = `notes-r2-${participant}-1`;
    const exitCode = await runPod(name);
    expect(exitCode).toBe(69);
    await site.kubelet.end(name, exitCode);
    await site.until(() => site.failure() !== undefined, "failed");
    expect(site.failure()).toMatchObject({ reason: "BaseModelDigestMismatch" });
    await site.nothingLeft();
  },
  180_000,
);
