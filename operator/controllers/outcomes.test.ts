/** A real journal in a temporary folder; whether the Federation is there is what the test says. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Federation } from "../api/federation.ts";
import type { FederationRoundSpec } from "../api/federation-round.ts";
import { federation, federationRound } from "../api/testing/objects.ts";
import type { Journal } from "../journal/journal.ts";
import { openJournal } from "../journal/open.ts";
import { newRecord, type RoundRecord } from "../round/record.ts";
import { identityOf, Outcomes, specHash } from "./outcomes.ts";

let folder: string;
let journal: Journal;
let outcomes: Outcomes;
let living: Federation | undefined;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rondo-outcomes-"));
  journal = await openJournal(join(folder, "journal"));
  living = federation();
  outcomes = new Outcomes(journal, {
    federation: () => (living ? { kind: "there", object: living } : { kind: "absent" }),
  });
});
afterEach(async () => {
  await journal.close();
  await rm(folder, { recursive: true, force: true });
});

const applied = (uid: string, spec: Partial<FederationRoundSpec> = {}, name = "in-git") =>
  federationRound({ metadata: { name, uid }, spec: { training: { steps: 4 }, ...spec } });

function ended(uid: string, over: Partial<RoundRecord> = {}): RoundRecord {
  return {
    ...newRecord(identityOf(applied(uid)), 1),
    number: 7,
    federationUid: "uid-of-clinic-notes",
    phase: "Succeeded",
    phaseTimes: [
      { phase: "Pending", atMs: 1 },
      { phase: "Succeeded", atMs: 2 },
    ],
    outcome: { reason: "Published", message: "version 3 from 4 of 4 participants" },
    ...over,
  };
}

const kept = async (record: RoundRecord) => journal.commit(await outcomes.keep(record));

test("the same manifest under the same name gets its outcome back, and a sentence why it does not run", async () => {
  await kept(ended("first"));
  const again = await outcomes.recall(applied("second"));
  expect(again).toMatchObject({
    uid: "second",
    number: 7,
    phase: "Succeeded",
    phaseTimes: ended("first").phaseTimes,
    outcome: {
      reason: "Published",
      message:
        "this name has run already, as round 7, and does not run twice; another name runs it again. It ended so: version 3 from 4 of 4 participants",
    },
  });
});

test("and again and again: the sentence does not grow", async () => {
  await kept(ended("first"));
  const second = await outcomes.recall(applied("second"));
  await kept(second!);
  expect((await outcomes.recall(applied("third")))?.outcome).toEqual(second!.outcome);
});

test("another spec, another name or another federation is another round", async () => {
  await kept(ended("first"));
  expect(await outcomes.recall(applied("second", { training: { steps: 5 } }))).toBeUndefined();
  expect(await outcomes.recall(applied("second", {}, "elsewhere"))).toBeUndefined();
  expect(await outcomes.recall(applied("second", { federation: "other" }))).toBeUndefined();
});

test("what runs under the name with another spec is then what the name stands for", async () => {
  await kept(ended("first"));
  const other = applied("second", { training: { steps: 5 } });
  await kept({ ...ended("second"), ...identityOf(other), number: 8 });
  expect((await outcomes.recall(applied("third", { training: { steps: 5 } })))?.number).toBe(8);
  expect(await outcomes.recall(applied("third"))).toBeUndefined();
});

test("a round that never had a number leaves nothing", async () => {
  const { number: _none, ...pending } = ended("first", { phase: "Cancelled" });
  expect(await outcomes.keep(pending)).toEqual([]);
});

test("what went with its Federation does not come back", async () => {
  await kept(ended("first"));
  living = federation({ metadata: { uid: "created anew" } });
  expect(await outcomes.recall(applied("second"))).toBeUndefined();
  await outcomes.forget("clinic-notes");
  expect(await journal.entries("outcomes")).toEqual([]);
  living = undefined;
  expect(await outcomes.keep(ended("third"))).toEqual([]);
});

test("a round of the Federation before leaves nothing to the one that has its name now", async () => {
  living = federation({ metadata: { uid: "created anew" } });
  expect(await outcomes.keep(ended("first"))).toEqual([]);
});

test("a round belongs to the Federation that gave it its number", () => {
  const pending = newRecord(identityOf(applied("first")), 1);
  expect(outcomes.attribute(pending)).toBe(pending);
  const numbered = outcomes.attribute({ ...pending, number: 7 });
  expect(numbered.federationUid).toBe("uid-of-clinic-notes");
  living = federation({ metadata: { uid: "created anew" } });
  expect(outcomes.attribute(numbered)).toBe(numbered);
});

test("forgetting a federation leaves its namesakes alone", async () => {
  await kept(ended("first"));
  await outcomes.forget("clinic");
  expect(await outcomes.recall(applied("second"))).toBeDefined();
});

test("only what status shows is kept", async () => {
  const names = Array.from({ length: 200 }, (_, i) => `site-${i}`);
  const cohort = {
    members: names,
    threshold: 134,
    step: "complete",
    sinceMs: 1,
    answered: names,
    u1: names,
    u2: names,
    u3: names,
    gone: [],
    accusations: [],
  } as const;
  const contributions = names.map((participant) => ({ participant, root: "0".repeat(64), byteLength: 9, file: "f" }));
  const record = ended("first", {
    contributions,
    secure: { byteLength: 9, cohorts: [{ ...cohort } as never], dealers: [] },
    participants: names.map((name) => ({ name, state: "Contributed", job: "", reason: "", message: "", sinceMs: 1 })),
  });
  await kept(record);
  const [entry] = await journal.entries("outcomes");
  expect(entry!.value.byteLength).toBeLessThan(25_000);
  const again = await outcomes.recall(applied("second"));
  expect(again).toMatchObject({ contributions: [], participants: record.participants });
  expect(again?.secure?.cohorts[0]).toMatchObject({ threshold: 134, members: [] });
});

test("a spec's hash does not depend on the order of its fields, nor on cancel", () => {
  const spec: FederationRoundSpec = { federation: "f", training: { steps: 1, batchSize: 2 } };
  expect(specHash({ training: { batchSize: 2, steps: 1 }, cancel: true, federation: "f" })).toBe(specHash(spec));
  expect(specHash({ ...spec, retries: 0 })).not.toBe(specHash(spec));
});
