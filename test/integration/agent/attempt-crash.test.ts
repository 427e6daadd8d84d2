/**
 * A change of attempts whose process dies at each effect, before it or after it, from every state of the earlier session: real ledger, real
 * files, real masking; the rest of the cohort and the operator are in memory, because they are what survives.
 */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { Registry } from "prom-client";
import { expect, test } from "vitest";
import { Agent } from "../../../operator/agent/agent.ts";
import { policySchema } from "../../../operator/agent/config.ts";
import { signer } from "../../../operator/agent/identity.ts";
import { Ledger } from "../../../operator/agent/ledger.ts";
import { OperatorFault } from "../../../operator/agent/link.ts";
import { agentMetrics } from "../../../operator/agent/metrics.ts";
import type { Assignment } from "../../../operator/agent/record.ts";
import {
  MemoryJobs,
  MemoryMaskedRounds,
  MemoryOperator,
  MemoryStorage,
  secureParts,
} from "../../../operator/agent/testing/far-side.ts";
import { planBytes } from "../../../operator/agent/testing/plan.ts";
import { SecurePeers } from "../../../operator/agent/testing/secure-peers.ts";
import { secureOf, testMember } from "../../../operator/agent/testing/secure-plan.ts";
import { trainedSite } from "../../../operator/agent/testing/secure-site.ts";
import type { Journal } from "../../../operator/journal/journal.ts";
import { openJournal } from "../../../operator/journal/open.ts";
import type { Plan } from "../../../operator/round/plan.ts";
import type { CoordinatorMessage } from "../../../operator/secagg/messages.ts";
import { startTaskServer } from "../../../operator/trainer/task-server.ts";
import type { ProtocolStep } from "../../../operator/transport/generated/rondo.v1.ts";
import { generateIdentity, rawPublicKey } from "../../../operator/transport/identity.ts";
import { signPlan } from "../../../operator/transport/plan.ts";
import { crashing } from "./crashing.ts";

const members = ["clinic-a", "clinic-b", "clinic-c", "clinic-d"].map(testMember);
const own = members[0]!;
const planKey = generateIdentity();
const STATES = ["Prepared", "ADVERTISED", "SHARED", "MASKED", "SIGNED"] as const;
type Reached = (typeof STATES)[number];
/** What must not be asked any more for the session to stay in this state. */
const UNASKED: Partial<Record<Reached, CoordinatorMessage["$case"]>> = {
  ADVERTISED: "keys",
  SHARED: "shares",
  MASKED: "consistency",
  SIGNED: "unmask",
};

/** An operator with a cohort for each attempt; what is said of an attempt before its own is not taken. */
class Attempts extends MemoryOperator {
  readonly peers = new Map<number, SecurePeers>();
  current = 1;

  begin(plan: Plan): SecurePeers {
    this.current = plan.attempt;
    const known = this.peers.get(plan.attempt);
    if (known) return known;
    const names = new Set(plan.roster.map(({ participant }) => participant));
    const left = members.filter(({ participant }) => names.has(participant));
    const peers = new SecurePeers(plan, left, own.participant);
    this.peers.set(plan.attempt, peers);
    return peers;
  }

  override async say(...[assignment, message]: Parameters<MemoryOperator["say"]>): Promise<void> {
    this.#of(assignment).say(message);
  }

  override async upload(...[assignment, upload]: Parameters<MemoryOperator["upload"]>): Promise<void> {
    await this.#of(assignment).upload(upload);
  }

  #of({ attempt }: Assignment): SecurePeers {
    if (attempt !== this.current) throw new OperatorFault("AttemptEnded", "another attempt runs");
    return this.peers.get(attempt)!;
  }
}

/** One site over as many processes as a test lets die. */
class MortalSite {
  readonly folder: string;
  readonly first: Plan;
  readonly second: Plan;
  readonly operator = new Attempts();
  readonly maskedRounds = new MemoryMaskedRounds();
  journal: Journal | undefined;
  agent: Agent | undefined;
  #end: () => Promise<void> = async () => {};

  constructor(folder: string, first: Plan) {
    this.folder = folder;
    this.first = first;
    const roster = first.roster.filter(({ participant }) => participant !== "clinic-d");
    const secure = secureOf([roster.map(({ participant }) => participant)]);
    this.second = { ...first, attempt: 2, roster, secure };
  }

  async start(tick: () => "before" | "after" | undefined = () => undefined, die: () => void = () => {}): Promise<void> {
    const journal = await openJournal(join(this.folder, "journal.db"));
    const tasks = await startTaskServer({
      dataDir: join(this.folder, "tasks"),
      address: "127.0.0.1:0",
      hosts: ["127.0.0.1"],
    });
    this.journal = journal;
    const policy = { federations: ["*"], images: ["*"], gpus: { max: 1 }, minCohort: 3 };
    this.agent = new Agent({
      ledger: new Ledger(crashing(journal, ["commit"], tick, die)),
      link: crashing(this.operator, ["say", "upload", "accept"], tick, die),
      jobs: crashing(new MemoryJobs(), ["remove"], tick, die),
      tasks,
      taskUrl: "https://127.0.0.1:1",
      workDir: join(this.folder, "work"),
      podTemplate: {},
      shareTrainerErrors: false,
      secure: secureParts({
        maskedRounds: crashing(this.maskedRounds, ["raise"], tick, die),
        sign: signer(own.privateKey),
      }),
      storage: new MemoryStorage(),
      metrics: agentMetrics(new Registry()),
      log: pino({ level: "silent" }),
      backoffMs: { least: 5, most: 20 },
      invitation: {
        participant: own.participant,
        planKey: Buffer.from(rawPublicKey(planKey.publicKey)).toString("base64"),
      },
      identity: own.identity,
      policy: policySchema.parse(policy),
    });
    const { agent } = this;
    this.#end = async () => {
      await agent.stop();
      await Promise.all([tasks.stop(), journal.close()]);
    };
  }

  end(): Promise<void> {
    return this.#end();
  }

  /** The cohort of this attempt asks; all but one question. */
  attend(plan: Plan, unasked?: CoordinatorMessage["$case"]): SecurePeers {
    const peers = this.operator.begin(plan);
    const { federation, round, attempt, purpose } = plan;
    const work = { federation, round, attempt, purpose, participant: own.participant, step: "step" };
    peers.ask = (message) => {
      if (message.$case !== unasked) this.agent!.onStep({ work, step: message as ProtocolStep["step"] & object });
    };
    peers.announce();
    return peers;
  }

  sendSecond(): void {
    this.attend(this.second);
    this.agent!.onPlan(signPlan(this.second, planKey.privateKey).signed, 0);
  }

  get ledger(): Ledger {
    return new Ledger(this.journal!);
  }

  assignment(attempt: number): Promise<Assignment | undefined> {
    return this.ledger.assignment({ ...this.first, attempt });
  }

  session(attempt: number) {
    return this.ledger.sessions.load({ ...this.first, attempt });
  }
}

/** A site whose first attempt has come this far, in a process that has ended. */
async function siteIn(reached: Reached): Promise<MortalSite> {
  const folder = await mkdtemp(join(tmpdir(), "rondo-attempt-crash-"));
  const { plan, assignment } = await trainedSite(folder, members);
  const site = new MortalSite(folder, plan);
  await site.start();
  const begun: Assignment = reached === "Prepared" ? { ...assignment, state: { kind: "Prepared" } } : assignment;
  await site.ledger.begin(begun, planBytes(plan).bytes, 0);
  if (reached !== "Prepared") {
    await site.agent!.resume();
    site.attend(plan, UNASKED[reached]);
    await expect.poll(async () => (await site.session(1))?.row.state, { timeout: 10_000 }).toBe(reached);
  }
  await site.end();
  return site;
}

/** @returns whether there was such an effect */
async function changeWithCrash(reached: Reached, at: number): Promise<boolean> {
  const site = await siteIn(reached);
  let effects = 0;
  let died = false;
  const dead = Promise.withResolvers<void>();
  const die = () => {
    died = true;
    void site.agent!.stop();
    dead.resolve();
  };
  const tick = () => {
    if (died) return "before" as const; // a dead process does nothing more
    if (effects++ !== Math.floor(at / 2)) return undefined;
    return at % 2 === 0 ? ("before" as const) : ("after" as const);
  };
  const isOver = async () => (await site.assignment(2))?.cleaned && (await site.assignment(2))?.told;
  await site.start(tick, die);
  if (reached === "Prepared") site.sendSecond();
  await site.agent!.resume();
  if (reached !== "Prepared") site.sendSecond();
  const over = (async () => {
    while (!died && !(await isOver())) await new Promise((resolve) => setTimeout(resolve, 5));
  })();
  await Promise.race([dead.promise, over]);
  await over;
  await site.end();
  const where = `${reached}, crash ${at % 2 === 0 ? "before" : "after"} effect ${Math.floor(at / 2)}`;

  await site.start();
  await site.agent!.resume();
  site.sendSecond();
  await expect.poll(isOver, { timeout: 20_000, message: where }).toBe(true);
  expect(await site.assignment(1), where).toMatchObject({ state: { kind: "Cancelled", reason: "Superseded" } });
  expect(await site.assignment(2), where).toMatchObject({ state: { kind: "Contributed" }, began: 1 });
  const before = await site.session(1);
  if (before) expect(before, where).toEqual({ row: expect.objectContaining({ state: "ABORTED", open: "" }) });
  expect(await site.session(2), where).toEqual({ row: expect.objectContaining({ state: "RELEASED" }) });
  const { messages, roots, step } = site.operator.peers.get(2)!;
  expect(step, where).toBe("complete");
  for (const kind of ["advertise", "share", "consistency", "unmask"] as const) {
    const said = messages.filter(({ $case }) => $case === kind).map((message) => JSON.stringify(message));
    expect(new Set(said).size, `${where}: ${kind}`).toBe(1);
  }
  expect(new Set(roots).size, where).toBe(1);
  expect(site.operator.peers.get(1)?.messages.some(({ $case }) => $case === "unmask") ?? false, where).toBe(false);
  // Each attempt that masked may have been opened by others: both count.
  const spent = await site.ledger.sessions.spentByOthers({ ...site.first, round: 9, parent: site.first.parent.digest });
  expect(spent, where).toBe(reached === "MASKED" || reached === "SIGNED" ? 2 : 1);
  expect(await readdir(join(site.folder, "work")), where).toEqual([]);
  await site.end();
  const left = (await readFile(join(site.folder, "journal.db"))).toString("latin1");
  expect(left.includes("ownSelfShare") || left.includes('"sSk"'), where).toBe(false);
  await rm(site.folder, { recursive: true });
  // One that the operator did not take is an effect too, after which nobody dies.
  return effects > Math.floor(at / 2);
}

test.each(STATES.map((reached) => ({ reached, most: reached === "SIGNED" ? 16 : 6 })))(
  "wherever the process dies while the session of the attempt before is $reached, the next one ends the same attempt: one opened sum, no secret left",
  async ({ reached, most }) => {
    let at = 0;
    while (at < most && (await changeWithCrash(reached, at))) at++;
    // The change itself, the acceptance, ADVERTISED, M0, …: each before and after.
    expect(at).toBeGreaterThanOrEqual(most);
  },
  300_000,
);
