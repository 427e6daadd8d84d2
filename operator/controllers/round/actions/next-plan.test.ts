import { generateKeyPairSync } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Journal } from "../../../journal/journal.ts";
import { openJournal } from "../../../journal/open.ts";
import type { Plan } from "../../../round/plan.ts";
import type { NextAttempt } from "../../../round/record.ts";
import { pending, T0 } from "../../../round/testing/worlds.ts";
import { planScales } from "../../../secagg/vector.ts";
import { openPlan, signPlan } from "../../../transport/plan.ts";
import type { Context } from "../../context.ts";
import { planRemovals, planWrites, readPlan } from "../stored-plan.ts";
import { securePlan } from "../testing/secure-session.ts";
import { makeNextPlan, nextPlan } from "./next-plan.ts";

const COHORTS = [
  ["ann", "ben", "cy", "dee", "eve"],
  ["fay", "gus", "hal", "ida"],
];
const TENSORS = [{ name: "q.lora_A.weight", shape: [2, 4] as [number, number] }];
const SHOWN = securePlan({ ring: "u32", tensors: TENSORS, clip: 0.5, cohorts: COHORTS });
const FIRST: Plan = {
  ...SHOWN,
  roundName: "fed-r1",
  minimum: 3,
  adapter: { rank: 2, alpha: 4, targetModules: ["q"] },
  training: {
    image: "trainer:test",
    task: "instruction",
    steps: 2,
    batchSize: 1,
    sequenceLength: 64,
    learningRate: "0.1",
    resources: { gpus: 0, gpuResourceName: "nvidia.com/gpu", memory: "1Gi", cpu: "1" },
  },
  aggregation: {
    privacy: "secure",
    rule: "mean",
    lora: "average",
    weighting: "examples",
    exampleCap: 10,
    clipNorm: "0.5",
  },
  roster: COHORTS.flat().map((participant) => ({ participant, identity: Buffer.alloc(32).toString("base64") })),
  deadlines: {
    accept: T0,
    training: T0 + 100,
    share: T0 + 250,
    mask: T0 + 800,
    consistency: T0 + 950,
    aggregation: T0 + 1100,
  },
};
const LATER_COHORTS = [["ann", "ben", "eve"], COHORTS[1]!];
const kept: NextAttempt = {
  cohorts: LATER_COHORTS,
  deadlines: { kind: "kept", acceptMs: FIRST.deadlines.accept, trainingMs: FIRST.deadlines.training },
};

test("a later attempt has fewer members, and thresholds and scales by what is left; all else stays", () => {
  const { roster, secure, attempt, ...rest } = nextPlan(FIRST, 2, kept, T0 + 50);
  const { roster: _roster, secure: before, attempt: _attempt, ...same } = FIRST;
  expect(rest).toEqual(same);
  expect(attempt).toBe(2);
  expect(roster.map(({ participant }) => participant)).toEqual(LATER_COHORTS.flat());
  expect(secure).toMatchObject({
    ring: before!.ring,
    metrics: before!.metrics,
    largestCohort: 4,
    cohorts: [
      { members: LATER_COHORTS[0], threshold: 3 },
      { members: LATER_COHORTS[1], threshold: 3 },
    ],
    scales: planScales("u32", 4, [0.5]),
  });
});

test("where nobody trains any more all deadlines begin anew, and aggregation is as long as it was", () => {
  const { deadlines } = nextPlan(
    FIRST,
    2,
    { cohorts: LATER_COHORTS, deadlines: { kind: "anew", withinMs: 500 } },
    T0 + 9000,
  );
  const begin = T0 + 9500;
  expect(deadlines).toEqual({
    accept: begin,
    training: begin,
    share: begin + 150,
    mask: begin + 700,
    consistency: begin + 850,
    aggregation: begin + 1000,
  });
});

let folder: string;
let journal: Journal;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rondo-next-plan-"));
  journal = await openJournal(join(folder, "journal.sqlite"));
});
afterEach(async () => {
  await journal.close();
  await rm(folder, { recursive: true });
});

test("each attempt's plan is journalled beside the one before, signed, and all of them go in the end", async () => {
  const { privateKey: planKey, publicKey } = generateKeyPairSync("ed25519");
  const { signed } = signPlan(FIRST, planKey);
  const parent = { version: 0, name: "fed-v0", digest: "d", adapterDigest: "d", reference: "r@d", byteLength: 1 };
  const publish = { oci: { repository: "registry.test/fed", plainHTTP: false } };
  await journal.commit(planWrites({ uid: "u1", attempt: 1 }, { signed, parent, publish }));
  const context = { journal, planKey, now: () => T0 + 50 } as unknown as Context;
  // The third attempt: the second had lost members before it got a plan.
  const record = { ...pending(), attempt: 3, next: kept };

  const made = await makeNextPlan(context, record, new AbortController().signal);
  expect(made).toMatchObject({ kind: "made", attempt: 3, roster: LATER_COHORTS.flat(), number: FIRST.round });
  const stored = await readPlan(journal, record);
  expect(openPlan(stored!.signed, publicKey).plan).toEqual(nextPlan(FIRST, 3, kept, T0 + 50));
  expect(stored).toMatchObject({ parent, publish });
  expect((await journal.entries("plans")).map(({ key }) => key)).toEqual(["u1", "u1/3"]);
  await journal.commit(planRemovals(record));
  expect(await journal.entries("plans")).toEqual([]);
});
