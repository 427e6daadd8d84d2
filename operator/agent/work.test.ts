/** Assignments with a real ledger, real files and the real task API; cluster and operator are in memory (testing/far-side.ts). */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { Registry } from "prom-client";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Journal } from "../journal/journal.ts";
import { openJournal } from "../journal/open.ts";
import { openSafetensors } from "../publish/safetensors.ts";
import type { Plan } from "../round/plan.ts";
import { startTaskServer, type TaskServer } from "../trainer/task-server.ts";
import { generateRoundKeys, openRecords } from "../transport/sealing.ts";
import type { EnsureJob } from "./jobs.ts";
import { Ledger } from "./ledger.ts";
import { agentMetrics } from "./metrics.ts";
import type { Assignment } from "./record.ts";
import { MemoryJobs, MemoryOperator, MemoryStorage, secureParts } from "./testing/far-side.ts";
import { makePlan, planBytes, tensors, writeAdapter } from "./testing/plan.ts";
import { TestTrainer } from "./testing/trainer.ts";
import { Work, type WorkDeps } from "./work.ts";

let folder: string;
let journal: Journal;
let ledger: Ledger;
let tasks: TaskServer;
let jobs: MemoryJobs;
let operator: MemoryOperator;
let keys: { publicKey: Uint8Array; privateKey: Uint8Array };
let plan: Plan;

const log = pino({ level: "silent" });

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rondo-work-"));
  await mkdir(join(folder, "work"));
  await startAgain();
  jobs = new MemoryJobs();
  operator = new MemoryOperator();
  keys = await generateRoundKeys();
  const parent = join(folder, "v0.safetensors");
  const { sha256, byteLength } = await writeAdapter(parent, () => 1);
  const identity = Buffer.alloc(32, 7).toString("base64");
  const sealingKey = Buffer.from(keys.publicKey).toString("base64");
  plan = makePlan({
    participant: "clinic-a",
    identity,
    parentDigest: sha256,
    parentBytes: byteLength,
    sealingKey,
    nowMs: Date.now(),
  });
  operator.adapters.set(plan.parent.digest, parent);
  jobs.onCreated = (options) => void train(options, () => 1.25);
});

afterEach(async () => {
  await tasks.stop();
  await journal.close();
  await rm(folder, { recursive: true });
});

async function startAgain(): Promise<void> {
  journal = await openJournal(join(folder, "journal.db"));
  ledger = new Ledger(journal);
  tasks = await startTaskServer({ dataDir: join(folder, "tasks"), address: "127.0.0.1:0", hosts: ["127.0.0.1"] });
}

/** Until it is told 204, like a trainer whose agent restarts under it. */
async function train(
  options: EnsureJob,
  valueAt: (index: number) => number,
  table: Plan["tensors"] = tensors,
): Promise<void> {
  const file = join(folder, "from-trainer.safetensors");
  await writeAdapter(file, valueAt, table);
  const adapter = await readFile(file);
  for (let tries = 0; tries < 100; tries++) {
    const trainer = new TestTrainer({ port: tasks.port, caPem: options.task.caPem, token: options.task.token });
    const status = await trainer.deliver(adapter).catch(() => 0);
    if (status === 204 || status === 401) break;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const job = jobs.jobs.get(options.name);
  if (job) job.seen = { state: "Succeeded", reason: "Completed", message: "" };
}

function accepted(change: Partial<Assignment> = {}): Assignment {
  return {
    schema: 1,
    federation: plan.federation,
    round: plan.round,
    roundName: plan.roundName,
    attempt: 1,
    purpose: "delta",
    participant: "clinic-a",
    planHash: Buffer.from(planBytes(plan).hash).toString("hex"),
    deadlines: {
      acceptMs: plan.deadlines.accept,
      trainingMs: plan.deadlines.training,
      aggregationMs: plan.deadlines.aggregation,
    },
    receivedMs: Date.now(),
    job: "clinic-notes-r1-clinic-a-1",
    seed: 5,
    token: "A".repeat(43),
    state: { kind: "Accepted" },
    stateSinceMs: Date.now(),
    told: false,
    cleaned: false,
    ...change,
  };
}

function makeWork(assignment: Assignment, change: Partial<WorkDeps> = {}): Work {
  return new Work(assignment, plan, {
    ledger,
    link: operator,
    jobs,
    tasks,
    taskUrl: `https://127.0.0.1:${tasks.port}`,
    workDir: join(folder, "work"),
    podTemplate: {},
    shareTrainerErrors: false,
    secure: secureParts(),
    storage: new MemoryStorage(),
    metrics: agentMetrics(new Registry()),
    log,
    backoffMs: { least: 5, most: 20 },
    ...change,
  });
}

async function begin(change: Partial<WorkDeps> = {}, assignmentChange: Partial<Assignment> = {}): Promise<Work> {
  const assignment = accepted(assignmentChange);
  await ledger.begin(assignment, planBytes(plan).bytes, 0);
  return makeWork(assignment, change);
}

const kept = async () => (await ledger.assignments())[0]!;

/** What the operator can read: the values of the uploaded delta. */
async function opened(upload: Buffer): Promise<Set<number>> {
  const file = join(folder, "uploaded");
  await writeFile(file, upload);
  const plain: Uint8Array[] = [];
  const sealedFor = { planHash: planBytes(plan).hash, participant: "clinic-a", privateKey: keys.privateKey };
  for await (const record of openRecords(file, sealedFor)) plain.push(record);
  await writeFile(file, Buffer.concat(plain));
  await using delta = await openSafetensors(file);
  const values = new Set<number>();
  for (const tensor of delta.header.tensors)
    for await (const { values: some } of delta.chunks(tensor)) for (const v of some) values.add(v);
  return values;
}

test("from an accepted plan to a contribution that only the operator can open, and nothing is left at the site", async () => {
  const work = await begin();
  await work.run();
  expect(work.assignment.state.kind).toBe("Contributed");
  expect(operator.uploads).toHaveLength(1);
  const [value] = await opened(operator.uploads[0]!);
  expect(value).toBeCloseTo(1 / Math.sqrt(32), 6); // 32 values of 0.25, clipped to norm 1
  expect(operator.uploads[0]!.includes("base_model.model")).toBe(false);
  expect(jobs.jobs.size).toBe(0);
  expect(await readdir(join(folder, "work"))).toEqual([]);
  expect(await kept()).toMatchObject({
    told: true,
    cleaned: true,
    result: { heldOut: { parentLoss: 3.1, loss: 2.9 } },
  });
  expect((await kept()).token).toBeUndefined();
});

test("the operator hears Scheduling, Training, Trained and Sharing, and never a loss", async () => {
  jobs.fresh = { state: "Scheduling", reason: "ContainerCreating", message: "" };
  jobs.onCreated = () => {};
  const work = await begin();
  const running = work.run();
  await expect.poll(() => operator.statuses.map(({ state }) => state)).toEqual(["Scheduling"]);
  const job = jobs.jobs.get(work.assignment.job)!;
  job.seen = { state: "Running", reason: "Running", message: "" };
  work.wake();
  await expect.poll(() => operator.statuses.at(-1)?.state).toBe("Training");
  const trainer = new TestTrainer({ port: tasks.port, caPem: tasks.caPem, token: job.options.task.token });
  await trainer.progress(2, 4);
  await expect.poll(() => operator.statuses.at(-1)?.step, { timeout: 3_000 }).toBe(2);
  await train(job.options, () => 1.25);
  await running;
  expect(new Set(operator.statuses.map(({ state }) => state))).toEqual(
    new Set(["Scheduling", "Training", "Trained", "Sharing"]),
  );
  expect(JSON.stringify(operator.statuses)).not.toContain("loss");
});

test("the trainer is given the plan's work, the agent's seed and a deadline by the agent's clock", async () => {
  jobs.onCreated = () => {};
  const work = await begin();
  const running = work.run();
  await expect.poll(() => jobs.jobs.size).toBe(1);
  const { options } = jobs.jobs.get(work.assignment.job)!;
  const trainer = new TestTrainer({ port: tasks.port, caPem: tasks.caPem, token: options.task.token });
  expect(await trainer.task()).toMatchObject({
    schema: 1,
    kind: "train",
    seed: 5,
    participant: "clinic-a",
    adapter: { rank: 2, alpha: 4, scaling: 2 },
    training: { steps: 4, learningRate: "0.0002" },
    learningRate: "0.0002",
    frozen: null,
    recordPrivacy: null,
    deadline: plan.deadlines.training,
  });
  expect((await trainer.call("GET", "/v1/task/adapter")).body).toEqual(await readFile(join(folder, "v0.safetensors")));
  expect(options.activeDeadlineSeconds).toBeLessThanOrEqual(120);
  work.cancel("RoundFailed", "over");
  await running;
});

test.each([
  { says: "NaN", reason: "NonFinite", train: (options: EnsureJob) => train(options, () => Number.NaN) },
  {
    says: "another rank",
    reason: "ShapeDiffers",
    train: (options: EnsureJob) =>
      train(options, () => 1, [
        { ...tensors[0]!, shape: [4, 8] },
        { ...tensors[1]!, shape: [8, 4] },
      ]),
  },
  {
    says: "another module",
    reason: "TensorMissing",
    train: (options: EnsureJob) => train(options, () => 1, [{ ...tensors[0]!, name: "x" }, tensors[1]!]),
  },
])("a trainer that returns $says fails the assignment and uploads nothing", async ({ reason, train }) => {
  jobs.onCreated = (options) => void train(options);
  const work = await begin();
  await work.run();
  expect(work.assignment.state).toMatchObject({ kind: "Failed", reason });
  expect(operator.said).toEqual([{ kind: "fail", reason, message: expect.any(String) }]);
  expect(operator.uploads).toEqual([]);
  expect(jobs.jobs.size).toBe(0);
});

test.each([
  { says: "shared with the operator only where the site's policy says so", share: true },
  { says: "kept at the site by default", share: false },
])("a crashed trainer's last words are $says", async ({ share }) => {
  jobs.onCreated = (options) => {
    const seen = {
      state: "Failed",
      reason: "TrainerCrashed",
      message: "exit code 1",
      trainerError: "record: Mrs. Miller",
    } as const;
    jobs.jobs.get(options.name)!.seen = seen;
  };
  const work = await begin({ shareTrainerErrors: share });
  await work.run();
  expect(jobs.notes).toEqual(["TrainerCrashed: record: Mrs. Miller"]);
  expect(JSON.stringify(operator.said).includes("Miller")).toBe(share);
});

test("a trainer that never ends is ended at the training deadline", async () => {
  jobs.onCreated = () => {};
  const nowMs = Date.now();
  const work = await begin(
    {},
    { deadlines: { acceptMs: nowMs + 100, trainingMs: nowMs + 250, aggregationMs: nowMs + 1_000 } },
  );
  await work.run();
  expect(work.assignment.state).toMatchObject({ kind: "Failed", reason: "DeadlineExceeded" });
  expect(jobs.jobs.size).toBe(0);
});

test("no GPU by the accept deadline: no capacity, in the scheduler's words, and the Job goes", async () => {
  const message = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.";
  jobs.fresh = { state: "Scheduling", reason: "Unschedulable", message };
  jobs.onCreated = () => {};
  const nowMs = Date.now();
  const work = await begin(
    {},
    { deadlines: { acceptMs: nowMs + 150, trainingMs: nowMs + 5_000, aggregationMs: nowMs + 6_000 } },
  );
  await work.run();
  expect(operator.said).toEqual([{ kind: "fail", reason: "NoCapacity", message }]);
  expect(jobs.jobs.size).toBe(0);
});

test("a parent adapter that the operator does not have is named when the accept deadline comes", async () => {
  operator.adapters.clear();
  const nowMs = Date.now();
  const work = await begin(
    {},
    { deadlines: { acceptMs: nowMs + 100, trainingMs: nowMs + 5_000, aggregationMs: nowMs + 6_000 } },
  );
  await work.run();
  expect(work.assignment.state).toMatchObject({ kind: "Failed", reason: "DigestUnknown" });
});

test("a cancellation's words are kept as one line that a terminal may show, and its reason as a name", async () => {
  jobs.onCreated = () => {};
  const work = await begin();
  work.cancel("\u001b[2J", "all is well\u001b[1A\nreally");
  await work.run();
  expect(work.assignment.state).toEqual({ kind: "Cancelled", reason: "Cancelled", message: "all is well [1A really" });
});

test("a cancellation while training deletes the Job and says nothing more", async () => {
  jobs.onCreated = () => {};
  const work = await begin();
  const running = work.run();
  await expect.poll(() => work.assignment.state.kind).toBe("Training");
  work.cancel("RoundFailed", "quorum lost");
  await running;
  expect(work.assignment.state).toMatchObject({ kind: "Cancelled", reason: "RoundFailed" });
  expect(jobs.jobs.size).toBe(0);
  expect(operator.said).toEqual([]);
});
