/** What rounds spend of the privacy of a site's records, on a real journal. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Journal } from "../journal/journal.ts";
import { openJournal } from "../journal/open.ts";
import type { Plan } from "../round/plan.ts";
import { Ledger } from "./ledger.ts";
import { makePlan } from "./testing/plan.ts";

let folder: string;
let journal: Journal;
let ledger: Ledger;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rondo-records-"));
  journal = await openJournal(join(folder, "ledger.db"));
  ledger = new Ledger(journal);
});
afterEach(async () => {
  await journal.close();
  await rm(folder, { recursive: true });
});

const round = (number: number, federation = "example.org/fl/clinic-notes") => ({ federation, round: number, began: 1 });
const plan = (recordPrivacy?: Plan["training"]["recordPrivacy"]): Plan => {
  const base = makePlan({ participant: "a", identity: "", parentDigest: "", parentBytes: 1, sealingKey: "", nowMs: 0 });
  return { ...base, training: { ...base.training, ...(recordPrivacy && { recordPrivacy }) } };
};
const privately = plan({ noiseMultiplier: "1.1", maxGradNorm: "1.0", sampleRate: "0.01" });
const entry = { noiseMultiplier: "1.1", sampleRate: "0.01", steps: 4 };
const times = (rounds: number) => ({ ...entry, steps: rounds * entry.steps });

test("what other rounds have set aside counts, of whatever federation, and one's own does not", async () => {
  await ledger.records.reserve(round(1), privately);
  await ledger.records.reserve(round(2), privately);
  await ledger.records.reserve(round(2, "other.org/fl/reports"), privately);
  expect(await ledger.records.spentBeside(round(2))).toEqual([times(2)]);
  expect(await ledger.records.spentBeside(round(3))).toEqual([times(3)]);
});

test("rounds of other settings stay apart, for epsilon is not that of a sum of steps", async () => {
  await ledger.records.reserve(round(1), privately);
  await ledger.records.reserve(round(2), plan({ noiseMultiplier: "2", maxGradNorm: "1.0", sampleRate: "0.01" }));
  expect(await ledger.records.spentBeside(round(3))).toEqual([entry, { ...entry, noiseMultiplier: "2" }]);
});

test("a round that begins again after a crash sets nothing more aside", async () => {
  await ledger.records.reserve(round(1), privately);
  await ledger.records.reserve(round(1), privately);
  expect(await ledger.records.spentBeside(round(2))).toEqual([entry]);
});

test("a round without record-level privacy spends nothing", async () => {
  await ledger.records.reserve(round(1), plan());
  expect(await ledger.records.spentBeside(round(2))).toEqual([]);
});

test("what is set aside outlives the agent, and goes with the commit that ends the round", async () => {
  await ledger.records.reserve(round(1), privately);
  await journal.close();
  journal = await openJournal(join(folder, "ledger.db"));
  ledger = new Ledger(journal);
  expect(await ledger.records.spentBeside(round(2))).toEqual([entry]);
  await journal.commit(ledger.records.release(round(1)));
  expect(await ledger.records.spentBeside(round(2))).toEqual([]);
});
