/** A real journal in a temporary folder; the objects are those that the test says. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Federation } from "../api/federation.ts";
import type { FederationRound } from "../api/federation-round.ts";
import { federation, federationRound } from "../api/testing/objects.ts";
import type { Journal } from "../journal/journal.ts";
import { openJournal } from "../journal/open.ts";
import { newRecord, type RoundRecord } from "../round/record.ts";
import { numberInName, Tally } from "./tally.ts";

const NOTES = federation();
const NAME = NOTES.metadata.name;

let folder: string;
let journal: Journal;
let living: Federation | undefined;
let rounds: FederationRound[];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rondo-tally-"));
  journal = await openJournal(join(folder, "journal"));
  living = NOTES;
  rounds = [];
});
afterEach(async () => {
  await journal.close();
  await rm(folder, { recursive: true, force: true });
});

async function open(): Promise<Tally> {
  const tally = new Tally(journal, {
    federation: () => (living ? { kind: "there", object: living } : { kind: "absent" }),
    roundsOf: () => rounds,
  });
  await tally.load();
  return tally;
}

const running: RoundRecord = newRecord({ name: "notes-r1", uid: "u1", federation: NAME }, 1);

function ended(phase: "Succeeded" | "Failed" | "Cancelled", over: Partial<RoundRecord> = {}): RoundRecord {
  return {
    ...running,
    phase,
    phaseTimes: [...running.phaseTimes, { phase, atMs: 77 }],
    outcome: { reason: phase === "Failed" ? "QuorumLost" : phase, message: "so it ended" },
    ...over,
  };
}

async function end(tally: Tally, ...phases: Array<"Succeeded" | "Failed" | "Cancelled">) {
  for (const phase of phases) await journal.commit(tally.writes(running, ended(phase)));
}

test("a round is counted when it ends, once, and a restart knows it", async () => {
  const tally = await open();
  expect(tally.writes(running, { ...running, phase: "Training" })).toEqual([]);
  await end(tally, "Succeeded", "Failed", "Cancelled");
  expect(tally.writes(ended("Succeeded"), ended("Succeeded"))).toEqual([]);
  expect((await open()).of(NOTES)).toMatchObject({ succeeded: 1, failed: 1, cancelled: 1, lastEndedMs: 77 });
});

describe("failures in a row", () => {
  test("end with a success, and not with a cancelled round", async () => {
    const tally = await open();
    await end(tally, "Failed", "Cancelled", "Failed");
    expect(tally.of(NOTES)).toMatchObject({
      failuresInRow: 2,
      lastFailure: { round: "notes-r1", reason: "QuorumLost", message: "so it ended" },
    });
    await end(tally, "Succeeded");
    expect(tally.of(NOTES)).toMatchObject({ failuresInRow: 0, failed: 2 });
  });

  test("begin anew when the Federation's spec has changed", async () => {
    const tally = await open();
    await end(tally, "Failed", "Failed");
    living = federation({ metadata: { generation: 2 } });
    await end(tally, "Failed");
    expect(tally.of(living)).toMatchObject({ failuresInRow: 1, generationOfRow: 2, failed: 3 });
  });
});

test("the last known loss stays when a round has none to show", async () => {
  const tally = await open();
  const candidate = { digest: "sha256:d", file: "f", byteLength: 1, contributors: 3 };
  const metrics = { trainLoss: 1.5, tokens: 9 };
  await journal.commit(tally.writes(running, ended("Succeeded", { candidate: { ...candidate, metrics } })));
  await journal.commit(tally.writes(running, ended("Succeeded", { candidate })));
  expect(tally.of(NOTES)).toMatchObject({ succeeded: 2, lastTrainLoss: 1.5 });
});

test("a round of the Federation that had the name before is not counted for the one that has it now", async () => {
  const tally = await open();
  expect(tally.writes(running, ended("Failed", { federationUid: "of the one before" }))).toEqual([]);
  expect(tally.of(NOTES)).toMatchObject({ failed: 0, failuresInRow: 0 });
});

test("a round whose Federation is gone is counted nowhere", async () => {
  const tally = await open();
  living = undefined;
  expect(tally.writes(running, ended("Cancelled"))).toEqual([]);
  expect(tally.federations()).toEqual([]);
});

describe("a Federation that is created anew under its name", () => {
  const anew = federation({ metadata: { uid: "another" } });

  test("begins at nothing, also when nobody saw the first one go", async () => {
    const tally = await open();
    await end(tally, "Succeeded");
    await tally.settled(NOTES, { isOwn: true });
    expect(tally.of(anew)).toMatchObject({ uid: "another", succeeded: 0 });
    expect(tally.creations(anew)).toMatchObject({ uid: "another", created: 0 });
  });

  test("and when the first one was forgotten, no row is left", async () => {
    const tally = await open();
    await end(tally, "Succeeded");
    await tally.settled(NOTES, { isOwn: true });
    await tally.forget(NAME);
    for (const space of ["tally", "creations"]) expect(await journal.entries(space), space).toEqual([]);
    expect((await open()).federations()).toEqual([]);
  });
});

describe("the rounds that it creates", () => {
  test("are counted when they are there, and the name of one to come is on disk before", async () => {
    const tally = await open();
    await tally.creating(NOTES, "clinic-notes-r1");
    expect((await open()).creations(NOTES)).toMatchObject({ creating: "clinic-notes-r1", created: 0 });
    await tally.settled(NOTES, { isOwn: true });
    const creations = (await open()).creations(NOTES);
    expect(creations).toMatchObject({ created: 1, lastNumber: 1 });
    expect(creations.creating).toBeUndefined();
  });

  test("leave out the numbers of others", async () => {
    const tally = await open();
    await tally.creating(NOTES, "clinic-notes-r1");
    await tally.settled(NOTES, { isOwn: false });
    expect((await open()).creations(NOTES)).toMatchObject({ created: 0, lastNumber: 1 });
  });

  test("lose nothing to a round that ends meanwhile, whichever commit comes last", async () => {
    const tally = await open();
    const late = tally.writes(running, ended("Failed"));
    await tally.creating(NOTES, "clinic-notes-r1");
    await tally.settled(NOTES, { isOwn: true });
    await journal.commit(late);
    const after = await open();
    expect(after.creations(NOTES)).toMatchObject({ created: 1 });
    expect(after.of(NOTES)).toMatchObject({ failed: 1 });
  });
});

test("without rows (a lost journal, an earlier release) the objects and what was created before tell", async () => {
  living = federation({ status: { rounds: { succeeded: 4, failed: 2, cancelled: 1 } } });
  rounds = [
    federationRound({ metadata: { name: "clinic-notes-r6", ownerReferences: [owner(living.metadata.uid)] } }),
    federationRound({ metadata: { name: "clinic-notes-r9" } }),
  ];
  expect((await open()).of(living)).toMatchObject({ succeeded: 4, failed: 2, cancelled: 1 });
  expect((await open()).creations(living)).toMatchObject({ created: 6, lastNumber: 6 });

  await journal.commit([{ put: { space: "created-rounds", key: living.metadata.uid, value: Buffer.from("8") } }]);
  expect((await open()).creations(living)).toMatchObject({ created: 8, lastNumber: 8 });
});

test.each([
  ["clinic-notes-r7", 7],
  ["clinic-notes-r07", 0],
  ["clinic-notes-r7b", 0],
  ["clinic-notes-rest", 0],
  ["other-r7", 0],
])("the number in %s is %d", (round, number) => expect(numberInName("clinic-notes", round)).toBe(number));

function owner(uid: string) {
  return { apiVersion: "rondo.dev/v1alpha1", kind: "Federation", name: NAME, uid, controller: true };
}
