/**
 * A secure assignment whose process dies at each effect it has, before it or after it: real ledger, real files, real masking; the rest of the
 * cohort and the operator are in memory (operator/agent/testing/secure-peers.ts), because they are what survives.
 */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { Registry } from "prom-client";
import { expect, test } from "vitest";
import { signer } from "../../../operator/agent/identity.ts";
import { Ledger } from "../../../operator/agent/ledger.ts";
import { makeMaskedVector } from "../../../operator/agent/masking.ts";
import { agentMetrics } from "../../../operator/agent/metrics.ts";
import type { Assignment } from "../../../operator/agent/record.ts";
import {
  MemoryJobs,
  MemoryMaskedRounds,
  MemoryStorage,
  secureParts,
} from "../../../operator/agent/testing/far-side.ts";
import { planBytes } from "../../../operator/agent/testing/plan.ts";
import { testMember } from "../../../operator/agent/testing/secure-plan.ts";
import { SecureOperator, trainedSite } from "../../../operator/agent/testing/secure-site.ts";
import { Work, type WorkDeps } from "../../../operator/agent/work.ts";
import { openJournal } from "../../../operator/journal/open.ts";
import { startTaskServer } from "../../../operator/trainer/task-server.ts";
import { crashing } from "./crashing.ts";

const members = ["clinic-a", "clinic-b", "clinic-c"].map(testMember);
const own = members[0]!;

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

async function runWithCrash(at: number): Promise<string | undefined> {
  const folder = await mkdtemp(join(tmpdir(), "rondo-crash-"));
  const { plan, assignment } = await trainedSite(folder, members);
  const operator = new SecureOperator(plan, members);
  const { peers } = operator;
  const maskedRounds = new MemoryMaskedRounds();
  const jobs = new MemoryJobs();
  let running = await startProcess(folder);
  const sign = signer(own.privateKey);
  const deps = (): WorkDeps => ({
    ledger: running.ledger,
    link: operator,
    jobs,
    tasks: running.tasks,
    taskUrl: "https://127.0.0.1:1",
    workDir: join(folder, "work"),
    podTemplate: {},
    shareTrainerErrors: false,
    secure: secureParts({ maskedRounds, sign }),
    storage: new MemoryStorage(),
    metrics: agentMetrics(new Registry()),
    log: pino({ level: "silent" }),
    backoffMs: { least: 5, most: 20 },
  });
  const start = (parts: WorkDeps, from: Assignment) => {
    const work: Work = new Work(from, plan, parts);
    peers.ask = (message) => work.ask(message);
    peers.announce();
    return work;
  };

  let effects = 0;
  let died: string | undefined;
  let first: Work | undefined;
  const die = () => {
    const { state } = first!.assignment;
    died = `crash ${at % 2 === 0 ? "before" : "after"} effect ${Math.floor(at / 2)}, in ${state.kind} ${first!.session?.state}`;
    first!.stop();
  };
  const tick = () => {
    if (died !== undefined) return "before" as const; // a dead process does nothing more
    if (effects++ !== Math.floor(at / 2)) return undefined;
    return at % 2 === 0 ? ("before" as const) : ("after" as const);
  };
  const dieOnce = () => {
    if (died === undefined) die();
  };
  await running.ledger.begin(assignment, planBytes(plan).bytes, 0);
  const { ledger } = running;
  const sessions = crashing(ledger.sessions, ["save", "saveMasked"], tick, dieOnce);
  const mortal = crashing(ledger, ["save"], tick, dieOnce);
  const masking = crashing({ mask: makeMaskedVector }, ["mask"], tick, dieOnce);
  first = start(
    {
      ...deps(),
      ledger: new Proxy(mortal, { get: (of, name) => (name === "sessions" ? sessions : Reflect.get(of, name)) }),
      link: crashing(operator, ["say", "upload"], tick, dieOnce),
      jobs: crashing(jobs, ["remove"], tick, dieOnce),
      secure: secureParts({ maskedRounds: crashing(maskedRounds, ["raise"], tick, dieOnce), sign, mask: masking.mask }),
    },
    assignment,
  );
  await first.run();
  if (died !== undefined) {
    await running.end();
    running = await startProcess(folder);
    const [found] = await running.ledger.assignments();
    await start(deps(), found!).run();
  }
  const where = died ?? "without a crash";
  const [ended] = await running.ledger.assignments();
  expect(ended, where).toMatchObject({ state: { kind: "Contributed" }, told: true, cleaned: true });
  expect(await running.ledger.sessions.load(ended!), where).toEqual({
    row: expect.objectContaining({ state: "RELEASED" }),
  });
  expect(peers.step, where).toBe("complete");
  for (const step of ["advertise", "share", "consistency", "unmask"] as const) {
    const said = peers.messages.filter(({ $case }) => $case === step).map((message) => JSON.stringify(message));
    expect(new Set(said).size, `${where}: ${step}`).toBe(1);
  }
  expect(new Set(peers.roots).size, where).toBe(1);
  expect(maskedRounds.rounds, where).toEqual(new Map([[plan.federation, 1]]));
  expect(
    await running.ledger.sessions.spentByOthers({
      federation: plan.federation,
      round: 2,
      attempt: 1,
      parent: plan.parent.digest,
    }),
    where,
  ).toBe(1);
  expect(await readdir(join(folder, "work")), where).toEqual([]);
  await running.end();
  const left = (await readFile(join(folder, "journal.db"))).toString("latin1");
  expect(left.includes("ownSelfShare") || left.includes('"sSk"'), where).toBe(false);
  await rm(folder, { recursive: true });
  return died;
}

test("wherever the process dies, the next one ends the same session: one transcript, one vector, one unmasking, no secret left", async () => {
  const deaths = [];
  for (let at = 0; ; at++) {
    const death = await runWithCrash(at);
    if (death === undefined) break;
    deaths.push(death);
  }
  // Prepared, ADVERTISED, M0, SHARED, M1, vector, MASKED, identity, upload, SIGNED, M3, RELEASED, M4, Contributed, Job, cleaned: each before and after.
  expect(deaths.length).toBeGreaterThanOrEqual(32);
  for (const state of ["ADVERTISED", "SHARED", "MASKED", "SIGNED", "RELEASED"]) {
    expect(
      deaths.some((death) => death.includes(state)),
      state,
    ).toBe(true);
  }
}, 300_000);
