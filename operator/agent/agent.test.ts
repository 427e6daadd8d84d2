/** What the agent does with plans before any of them is worked on, with a real ledger; cluster and operator are in memory. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { Registry } from "prom-client";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Journal } from "../journal/journal.ts";
import { openJournal } from "../journal/open.ts";
import type { Plan } from "../round/plan.ts";
import { startTaskServer, type TaskServer } from "../trainer/task-server.ts";
import { generateIdentity, rawPublicKey } from "../transport/identity.ts";
import { signPlan } from "../transport/plan.ts";
import { Agent } from "./agent.ts";
import { policySchema } from "./config.ts";
import { Ledger } from "./ledger.ts";
import { agentMetrics } from "./metrics.ts";
import { MemoryJobs, MemoryOperator, MemoryStorage, secureParts } from "./testing/far-side.ts";
import { makeSecurePlan, testMember } from "./testing/secure-plan.ts";

const planKey = generateIdentity();
const members = ["clinic-a", "clinic-b", "clinic-c", "clinic-d", "clinic-e"].map(testMember);
let folder: string;
let journal: Journal;
let tasks: TaskServer;
let operator: MemoryOperator;
let agent: Agent;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rondo-agent-"));
  journal = await openJournal(join(folder, "journal.db"));
  tasks = await startTaskServer({ dataDir: join(folder, "tasks"), address: "127.0.0.1:0", hosts: ["127.0.0.1"] });
  operator = new MemoryOperator();
  agent = new Agent({
    ledger: new Ledger(journal),
    link: operator,
    jobs: new MemoryJobs(),
    tasks,
    taskUrl: "https://127.0.0.1:1",
    workDir: join(folder, "work"),
    podTemplate: {},
    shareTrainerErrors: false,
    secure: secureParts(),
    storage: new MemoryStorage(),
    metrics: agentMetrics(new Registry()),
    log: pino({ level: "silent" }),
    backoffMs: { least: 5, most: 20 },
    invitation: { participant: "clinic-a", planKey: Buffer.from(rawPublicKey(planKey.publicKey)).toString("base64") },
    identity: members[0]!.identity,
    policy: policySchema.parse({ federations: ["*"], images: ["*"], gpus: { max: 1 } }),
  });
});
afterEach(async () => {
  await agent.stop();
  await tasks.stop();
  await journal.close();
  await rm(folder, { recursive: true });
});

function send(change: Partial<Plan>): void {
  const plan = makeSecurePlan({ parentDigest: "2".repeat(64), parentBytes: 100, nowMs: Date.now() }, members, change);
  agent.onPlan(signPlan(plan, planKey.privateKey).signed, 0);
}
const answers = () => operator.said.filter(({ kind }) => kind !== "fail").map(({ kind, reason }) => reason ?? kind);

test("of two rounds with one name, in one federation or in two, only the first is worked on: they would share a delta", async () => {
  send({ round: 1, roundName: "notes" });
  send({ round: 2, roundName: "notes" });
  send({ round: 1, roundName: "notes", federation: "example.org/other/clinic-notes" });
  send({ round: 3, roundName: "notes-3" });
  await vi.waitFor(() => expect(answers()).toEqual(["accept", "RoundNameTaken", "RoundNameTaken", "accept"]));
});

test("a flood of what is asked is dropped, not kept", async () => {
  for (let round = 1; round <= 80; round++) send({ round, roundName: `notes-${round}` });
  await vi.waitFor(() => expect(answers()).toHaveLength(64), { timeout: 10_000 });
  send({ round: 100, roundName: "notes-100" });
  await vi.waitFor(() => expect(answers()).toHaveLength(65), { timeout: 10_000 });
});

test("who is cut off by the operator ends all that it works on at once: nobody is left to cancel it", async () => {
  send({ round: 1, roundName: "notes" });
  send({ round: 2, roundName: "notes-2", federation: "example.org/other/clinic-notes" });
  await vi.waitFor(() => expect(answers()).toEqual(["accept", "accept"]));
  agent.onRevoked("The Participant is suspended by the coordinator");
  await vi.waitFor(() => expect(agent.open()).toEqual([]));
  await vi.waitFor(() => expect(agent.jobNames).toEqual([]));
});
