/**
 * An assignment whose process dies at each effect it has, before it or after it: real ledger, real files, real task API; cluster and operator
 * are in memory, because they are what survives. Here and not beside the code for its length: two journals are opened per crash.
 */
import { mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { Registry } from "prom-client";
import { expect, test } from "vitest";
import type { EnsureJob } from "../../../operator/agent/jobs.ts";
import { Ledger } from "../../../operator/agent/ledger.ts";
import { agentMetrics } from "../../../operator/agent/metrics.ts";
import type { Assignment } from "../../../operator/agent/record.ts";
import { MemoryJobs, MemoryOperator, MemoryStorage, secureParts } from "../../../operator/agent/testing/far-side.ts";
import { makePlan, planBytes, writeAdapter } from "../../../operator/agent/testing/plan.ts";
import { TestTrainer } from "../../../operator/agent/testing/trainer.ts";
import { Work, type WorkDeps } from "../../../operator/agent/work.ts";
import { openJournal } from "../../../operator/journal/open.ts";
import { startTaskServer } from "../../../operator/trainer/task-server.ts";
import { generateRoundKeys } from "../../../operator/transport/sealing.ts";
import { crashing } from "./crashing.ts";

/** What a process has open: gone with it. */
async function startProcess(folder: string) {
  const journal = await openJournal(join(folder, "journal.db"));
  const tasks = await startTaskServer({ dataDir: join(folder, "tasks"), address: "127.0.0.1:0", hosts: ["127.0.0.1"] });
  return {
    ledger: new Ledger(journal),
    tasks,
    end: async () => void (await Promise.all([tasks.stop(), journal.close()])),
  };
}

async function runWithCrash(at: number): Promise<"crashed" | "nothing left to crash at"> {
  const folder = await mkdtemp(join(tmpdir(), "rondo-crash-"));
  await mkdir(join(folder, "work"));
  const jobs = new MemoryJobs();
  const operator = new MemoryOperator();
  const parent = join(folder, "v0.safetensors");
  const { sha256, byteLength } = await writeAdapter(parent, () => 1);
  const sealingKey = Buffer.from((await generateRoundKeys()).publicKey).toString("base64");
  const identity = Buffer.alloc(32, 7).toString("base64");
  const nowMs = Date.now();
  const plan = makePlan({
    participant: "clinic-a",
    identity,
    parentDigest: sha256,
    parentBytes: byteLength,
    sealingKey,
    nowMs,
  });
  operator.adapters.set(plan.parent.digest, parent);
  let running = await startProcess(folder);

  let trainings = 0;
  jobs.onCreated = (options: EnsureJob) => {
    trainings++;
    void (async () => {
      const file = join(folder, "from-trainer.safetensors");
      await writeAdapter(file, () => 1.25);
      const adapter = await readFile(file);
      // Like rondo_trainer: again and again while the agent is away.
      for (let status = 0; status !== 204; ) {
        const { token, caPem } = options.task;
        status = await new TestTrainer({ port: running.tasks.port, caPem, token }).deliver(adapter).catch(() => 0);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      const job = jobs.jobs.get(options.name);
      if (job) job.seen = { state: "Succeeded", reason: "Completed", message: "" };
    })();
  };

  const assignment: Assignment = {
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
    receivedMs: nowMs,
    job: "clinic-notes-r1-clinic-a-1",
    seed: 5,
    token: "A".repeat(43),
    state: { kind: "Accepted" },
    stateSinceMs: nowMs,
    told: false,
    cleaned: false,
  };
  const deps = (): WorkDeps => ({
    ledger: running.ledger,
    link: operator,
    jobs,
    tasks: running.tasks,
    taskUrl: "https://127.0.0.1:1",
    workDir: join(folder, "work"),
    podTemplate: {},
    shareTrainerErrors: false,
    secure: secureParts(),
    storage: new MemoryStorage(),
    metrics: agentMetrics(new Registry()),
    log: pino({ level: "silent" }),
    backoffMs: { least: 5, most: 20 },
  });

  let effects = 0;
  let died = false;
  const tick = () => {
    if (died) return "before" as const; // a dead process does nothing more
    if (effects++ !== Math.floor(at / 2)) return undefined;
    return at % 2 === 0 ? ("before" as const) : ("after" as const);
  };
  await running.ledger.begin(assignment, planBytes(plan).bytes, 0);
  const die = () => {
    died = true;
    first.stop();
  };
  const first: Work = new Work(assignment, plan, {
    ...deps(),
    ledger: crashing(running.ledger, ["save"], tick, die),
    link: crashing(operator, ["fetchAdapter", "upload"], tick, die),
    jobs: crashing(jobs, ["ensure", "remove"], tick, die),
  });
  await first.run();
  let where = "without a crash";
  if (died) {
    await running.end();
    running = await startProcess(folder);
    const [found] = await running.ledger.assignments();
    where = `crash ${at % 2 === 0 ? "before" : "after"} effect ${Math.floor(at / 2)}, in state ${found!.state.kind}`;
    await new Work(found!, plan, deps()).run();
  }
  const [ended] = await running.ledger.assignments();
  expect(ended, where).toMatchObject({ state: { kind: "Contributed" }, told: true, cleaned: true });
  expect(new Set(operator.uploads.map((upload) => upload.toString("hex"))).size, where).toBe(1);
  expect(jobs.jobs.size, where).toBe(0);
  expect(trainings, where).toBe(1);
  expect(await readdir(join(folder, "work")), where).toEqual([]);
  await running.end();
  await rm(folder, { recursive: true });
  return died ? "crashed" : "nothing left to crash at";
}

test("wherever the process dies, the next one ends the same round: trained once, one contribution, nothing left behind", async () => {
  let at = 0;
  while ((await runWithCrash(at)) === "crashed") at++;
  // fetch, ensure, five states saved, upload, remove, the last save: each before and after.
  expect(at).toBeGreaterThanOrEqual(16);
}, 300_000);
