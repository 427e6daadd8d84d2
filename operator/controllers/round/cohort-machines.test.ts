/** Whenever the operator dies, what it knows of a cohort comes back from record and journal: nothing more, nothing less. */

import { generateKeyPairSync, type KeyObject, randomBytes, sign } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Journal } from "../../journal/journal.ts";
import { openJournal } from "../../journal/open.ts";
import { type AnswerStep, applyAnswer } from "../../round/cohorts.ts";
import { decide } from "../../round/decide.ts";
import type { RoundRecord } from "../../round/record.ts";
import { applyContribution } from "../../round/reports.ts";
import { cohort, SEVEN, secureTraining } from "../../round/testing/cohorts.ts";
import { T0, world } from "../../round/testing/worlds.ts";
import { advertise } from "../../secagg/participant/advertise.ts";
import type { ParticipantDeps } from "../../secagg/participant/deps.ts";
import { masked } from "../../secagg/participant/masked-input.ts";
import { receive } from "../../secagg/participant/session.ts";
import type { ParticipantState } from "../../secagg/participant/state.ts";
import { CohortMachines, forgetAnswers, type StepAnswer } from "./cohort-machines.ts";
import type { RoundPlan } from "./stored-plan.ts";
import { securePlan } from "./testing/secure-session.ts";

let folder: string;
let journal: Journal;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rondo-machines-"));
  journal = await openJournal(join(folder, "journal.sqlite"));
});
afterEach(async () => {
  await journal.close();
  await rm(folder, { recursive: true, force: true });
});

interface Site {
  name: string;
  deps: ParticipantDeps;
  state: ParticipantState;
}

const TENSORS = [{ name: "a", shape: [2, 3] as [number, number] }];

function roundOf(names: string[]) {
  const keys = new Map(names.map((name) => [name, generateKeyPairSync("ed25519")]));
  const raw = (name: string) => keys.get(name)!.publicKey.export({ format: "der", type: "spki" }).subarray(-32);
  const plan = securePlan({ ring: "u32", tensors: TENSORS, clip: 1, cohorts: [names] });
  const roster = names.map((participant) => ({ participant, identity: raw(participant).toString("base64") }));
  const planHash = new Uint8Array(32).fill(7);
  return {
    plan: { plan: { ...plan, roster }, planHash } as RoundPlan,
    privateKey: (name: string) => keys.get(name)!.privateKey,
  };
}

function depsOf(machines: CohortMachines, own: number, key: KeyObject): ParticipantDeps {
  return {
    terms: machines.terms[0]!,
    own,
    sign: (bytes) => new Uint8Array(sign(null, bytes, key)),
    random: (length) => new Uint8Array(randomBytes(length)),
  };
}

/** What a site says to what it is asked. */
function answerOf(site: Site, machines: CohortMachines, record: RoundRecord): StepAnswer | undefined {
  const request = machines.requestFor(record, site.name);
  if (!request) return undefined;
  const outcome = receive(site.deps, site.state, request);
  if (outcome.kind === "send") {
    site.state = outcome.next;
    return outcome.message;
  }
  if (outcome.kind !== "mask" || site.state.kind !== "Shared") throw new Error(outcome.kind);
  const { byteLength } = site.deps.terms;
  site.state = masked(site.deps, site.state, outcome.opened, { root: new Uint8Array(randomBytes(32)), byteLength });
  const { root, signature } = site.state.input;
  return { $case: "mask", value: { index: site.deps.own, root, signature } };
}

function entered(record: RoundRecord, name: string, answer: StepAnswer): RoundRecord {
  if (answer.$case !== "mask") return applyAnswer(record, name, answer.$case as AnswerStep, T0);
  const root = Buffer.from(answer.value.root).toString("hex");
  return applyContribution(record, { participant: name, root, byteLength: 100, file: `/spool/${root}` }, T0);
}

test("after every commit of a session a new process stands where the old one stood", async () => {
  const { plan, privateKey } = roundOf(SEVEN);
  let record = secureTraining([cohort(SEVEN)]);
  const machines = await CohortMachines.load(journal, plan, () => record);
  const sites: Site[] = SEVEN.map((name, at) => {
    const deps = depsOf(machines, at + 1, privateKey(name));
    return { name, deps, state: advertise(deps).next };
  });
  // eve is lost after her keys, dee after her masked vector.
  const isThere = ({ name }: Site, step: string) =>
    !(name === "eve" && step !== "advertise") && !(name === "dee" && ["consistency", "unmask"].includes(step));
  let restarts = 0;
  const sameAfterRestart = async () => {
    restarts += 1;
    const rebuilt = await CohortMachines.load(journal, plan, () => record);
    expect(rebuilt.state(record, 0)).toEqual(machines.state(record, 0));
    for (const name of SEVEN) expect(rebuilt.requestFor(record, name)).toEqual(machines.requestFor(record, name));
  };
  const take = async (name: string, answer: StepAnswer) => {
    const write = machines.take(record, name, answer);
    record = entered(record, name, answer);
    await journal.commit([write]);
    await sameAfterRestart();
  };
  const close = async (nowMs: number) => {
    record = decide(record, world({ nowMs, connected: new Set(SEVEN) })).record;
    await sameAfterRestart();
  };

  for (const site of sites) await take(site.name, { $case: "advertise", value: advertiseOf(site) });
  await close(T0);
  const { shareMs, maskMs, consistencyMs, aggregationMs } = record.deadlines!;
  for (const [step, endMs] of [
    ["share", shareMs!],
    ["mask", maskMs!],
    ["consistency", consistencyMs!],
    ["unmask", aggregationMs],
  ] as const) {
    expect(record.secure!.cohorts[0]!.step).toBe(step);
    for (const site of sites.filter((one) => isThere(one, step))) {
      const answer = answerOf(site, machines, record);
      if (answer) await take(site.name, answer);
    }
    await close(endMs);
  }
  const { step, u1, u2, u3, answered } = record.secure!.cohorts[0]!;
  expect([step, u1, u2!.length, u3!.length, answered.length]).toEqual(["complete", SEVEN, 6, 6, 5]);
  expect(restarts).toBe(7 + 6 + 6 + 5 + 5 + 5);
  await journal.commit(await forgetAnswers(journal, record));
  expect(await journal.entries("secagg")).toEqual([]);
});

/** Its first message, which its state keeps. */
function advertiseOf({ state }: Site) {
  if (state.kind !== "Advertised") throw new Error(state.kind);
  return state.message;
}
