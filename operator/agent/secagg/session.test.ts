/** A secure assignment from its delta to its end, with a real ledger, real files and real masking; the rest of its cohort is in memory. */
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { Registry } from "prom-client";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Journal } from "../../journal/journal.ts";
import { openJournal } from "../../journal/open.ts";
import type { Plan } from "../../round/plan.ts";
import type { CoordinatorMessage } from "../../secagg/messages.ts";
import { startTaskServer, type TaskServer } from "../../trainer/task-server.ts";
import { signer } from "../identity.ts";
import { Ledger } from "../ledger.ts";
import { OperatorFault } from "../link.ts";
import { agentMetrics } from "../metrics.ts";
import type { Assignment } from "../record.ts";
import { MemoryEvents, MemoryJobs, MemoryStorage, secureParts } from "../testing/far-side.ts";
import { planBytes } from "../testing/plan.ts";
import { testMember } from "../testing/secure-plan.ts";
import { SecureOperator, trainedSite } from "../testing/secure-site.ts";
import { Work } from "../work.ts";

const members = ["clinic-a", "clinic-b", "clinic-c"].map(testMember);
let folder: string;
let journal: Journal;
let ledger: Ledger;
let tasks: TaskServer;
let registry: Registry;
let events: MemoryEvents;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rondo-session-"));
  journal = await openJournal(join(folder, "journal.db"));
  ledger = new Ledger(journal);
  tasks = await startTaskServer({ dataDir: join(folder, "tasks"), address: "127.0.0.1:0", hosts: ["127.0.0.1"] });
  registry = new Registry();
  events = new MemoryEvents();
});
afterEach(async () => {
  await tasks.stop();
  await journal.close();
  await rm(folder, { recursive: true });
});

interface Trained {
  operator: SecureOperator;
  work: Work;
  plan: Plan;
}

async function begin(change: Partial<Assignment> = {}, valueAt?: (index: number) => number): Promise<Trained> {
  const { plan, assignment } = await trainedSite(folder, members, valueAt);
  const operator = new SecureOperator(plan, members);
  const begun = { ...assignment, ...change };
  await ledger.begin(begun, planBytes(plan).bytes, 0);
  const work: Work = new Work(begun, plan, {
    ledger,
    link: operator,
    jobs: new MemoryJobs(),
    tasks,
    taskUrl: "https://127.0.0.1:1",
    workDir: join(folder, "work"),
    podTemplate: {},
    shareTrainerErrors: false,
    secure: secureParts({ sign: signer(members[0]!.privateKey), events }),
    storage: new MemoryStorage(),
    metrics: agentMetrics(registry),
    log: pino({ level: "silent" }),
    backoffMs: { least: 5, most: 20 },
  });
  operator.peers.ask = (message) => work.ask(message);
  return { operator, work, plan };
}

const kept = async (work: Work) => ledger.sessions.load(work.assignment);
const sessionsEnded = async (end: string) => {
  const { values } = (await registry.getSingleMetric("rondo_agent_secagg_sessions_total")!.get()) as {
    values: Array<{ value: number; labels: { end?: string } }>;
  };
  return values.find(({ labels }) => labels.end === end)?.value;
};

test("an honest session ends contributed, with nothing left but what may be said again", async () => {
  const { operator, work } = await begin();
  await work.run();
  expect(work.assignment.state.kind).toBe("Contributed");
  expect(operator.peers.messages.map(({ $case }) => $case)).toEqual(["advertise", "share", "consistency", "unmask"]);
  expect(await kept(work)).toEqual({ row: expect.objectContaining({ state: "RELEASED" }) });
  expect(await readdir(join(folder, "work"))).toEqual([]);
  expect(events.events).toEqual([]);
  expect(await sessionsEnded("Released")).toBe(1);
});

test.each([
  { state: "SHARED", end: { kind: "Failed", reason: "AgentProblem" }, row: { state: "ABORTED", open: "" } },
  { state: "RELEASED", end: { kind: "Contributed" }, row: { state: "RELEASED" } },
] as const)(
  "a session in $state that cannot be read again ends, and its secrets with it",
  async ({ state, end, row }) => {
    const { operator, work } = await begin({ state: { kind: "Prepared" } });
    const damaged = { schema: 1 as const, state, sinceMs: 0, open: "{}" };
    await ledger.sessions.save(work.assignment, { row: damaged, secrets: '{"cSk":' });
    await work.run();
    expect(work.assignment.state).toMatchObject(end);
    expect((await kept(work))?.row).toMatchObject(row);
    if (state === "SHARED") expect((await kept(work))?.secrets).toBeUndefined();
    expect(operator.peers.messages).toEqual([]);
  },
);

test("a delta that is not finite is refused by the tensor's name, before any key is shown", async () => {
  const { operator, work, plan } = await begin({}, (index) => (index === 3 ? Number.POSITIVE_INFINITY : 1));
  await work.run();
  expect(work.assignment.state).toMatchObject({ kind: "Failed", reason: "NonFinite" });
  expect(JSON.stringify(work.assignment.state)).toContain(plan.tensors[0]!.name);
  expect(operator.peers.messages).toEqual([]);
  expect(operator.said).toMatchObject([{ kind: "fail", reason: "NonFinite" }]);
});

test.each(["keys", "shares", "consistency", "unmask"] as const)(
  "a cancellation when the operator is about to ask for %s ends the session, erases its secrets and says nothing more",
  async (step) => {
    const { operator, work } = await begin();
    operator.peers.ask = (message) => {
      if (message.$case === step) work.cancel("RoundFailed", "quorum lost");
      work.ask(message);
    };
    await work.run();
    expect(work.assignment.state).toEqual({ kind: "Cancelled", reason: "RoundFailed", message: "quorum lost" });
    const problem = { reason: "RoundFailed", message: "quorum lost", accused: [] };
    expect(await kept(work)).toEqual({ row: expect.objectContaining({ state: "ABORTED", open: "", problem }) });
    expect(operator.peers.messages.map(({ $case }) => $case)).toEqual(
      ["advertise", "share", "consistency", "unmask"].slice(0, { keys: 1, shares: 2, consistency: 2, unmask: 3 }[step]),
    );
    expect(operator.said).toEqual([]);
    expect(await sessionsEnded("Cancelled")).toBe(1);
    expect(events.events).toEqual([]); // the operator said it: nobody did wrong
  },
);

test("a round that is over before the sum is opened fails, and its secrets go", async () => {
  const { operator, work } = await begin({
    deadlines: { acceptMs: 0, trainingMs: 0, aggregationMs: Date.now() + 1_000 },
  });
  operator.peers.ask = (message) => void (message.$case === "consistency" || work.ask(message));
  await work.run();
  expect(work.assignment.state).toMatchObject({ kind: "Failed", reason: "RoundEnded" });
  expect(await kept(work)).toEqual({ row: expect.objectContaining({ state: "ABORTED" }) });
});

test("an operator that does not take a message ends the session: it goes on without this site", async () => {
  const { operator, work } = await begin();
  const say = operator.say.bind(operator);
  operator.say = async (of, message) => {
    if (message.$case === "share") throw new OperatorFault("NotExpected", "the step is over");
    await say(of, message);
  };
  await work.run();
  expect(work.assignment.state).toMatchObject({ kind: "Failed", reason: "NotExpected", message: "the step is over" });
  expect(await kept(work)).toEqual({ row: expect.objectContaining({ state: "ABORTED" }) });
});

test("a parent that other rounds have used up meanwhile is not masked from: rounds that run at once cannot pass the limit", async () => {
  const { operator, work, plan } = await begin();
  const parent = plan.parent.digest;
  const row = { schema: 1, state: "MASKED", sinceMs: 1, open: "{}" } as const;
  for (const round of [7, 8, 9]) {
    const of = { federation: plan.federation, round, attempt: 1, purpose: "delta", parent, limit: 3 };
    await ledger.sessions.saveMasked(of, { row });
  }
  await work.run();
  expect(work.assignment.state).toMatchObject({ kind: "Failed", reason: "ParentReused" });
  expect(operator.peers.roots).toEqual([]);
  expect(
    await ledger.sessions.spentByOthers({ federation: plan.federation, round: plan.round, attempt: 1, parent }),
  ).toBe(3);
  expect(events.events).toMatchObject([{ reason: "ParentReused", job: work.assignment.job }]);
  expect(await sessionsEnded("Aborted")).toBe(1);
});

test("what is no message of the protocol ends the session instead of being tried for ever", async () => {
  const { operator, work } = await begin();
  operator.peers.instead = (message): CoordinatorMessage =>
    message.$case === "keys" ? { $case: "keys", value: { advertised: undefined as never } } : message;
  await work.run();
  expect(work.assignment.state).toMatchObject({ kind: "Failed" });
  expect(await kept(work)).toEqual({ row: expect.objectContaining({ state: "ABORTED" }) });
  expect(operator.peers.messages.map(({ $case }) => $case)).toEqual(["advertise"]);
});

test("a flood of questions costs no memory, and the honest ones among them are answered", async () => {
  const { operator, work } = await begin();
  operator.peers.ask = (message) => {
    for (let times = 0; times < 1_000; times++) work.ask(structuredClone(message));
  };
  await work.run();
  expect(work.assignment.state.kind).toBe("Contributed");
  expect(new Set(operator.peers.messages.map((message) => JSON.stringify(message))).size).toBe(4);
});
