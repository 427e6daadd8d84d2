import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Journal } from "../../journal/journal.ts";
import { openJournal } from "../../journal/open.ts";
import { enter, type RoundRecord } from "../../round/record.ts";
import { RoundDesk } from "./desk.ts";

let folder: string;
let journal: Journal;
let commits: number;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rondo-desk-"));
  journal = counted(await openJournal(join(folder, "journal.sqlite")));
  commits = 0;
});

afterEach(async () => {
  await journal.close();
  await rm(folder, { recursive: true });
});

function counted(real: Journal): Journal {
  return {
    get: (space, key) => real.get(space, key),
    entries: (space, prefix) => real.entries(space, prefix),
    increment: (counter) => real.increment(counter),
    close: () => real.close(),
    commit(writes) {
      commits++;
      return real.commit(writes);
    },
  };
}

const ROUND = { name: "r1", uid: "u1", federation: "fed" };

async function deskWith(...rounds: Array<typeof ROUND>): Promise<RoundDesk> {
  const desk = await opened();
  for (const round of rounds) await desk.begin(round, 1);
  return desk;
}

async function opened(): Promise<RoundDesk> {
  const desk = new RoundDesk(journal, (error) => {
    throw error;
  });
  await desk.load();
  return desk;
}

const numberedAs = (number: number) => (record: RoundRecord) => ({ ...record, number });
const ended = (record: RoundRecord): RoundRecord => ({
  ...enter(record, "Succeeded", 9),
  outcome: { reason: "Succeeded", message: "done" },
});

test("two hundred changes that come at once are in a few commits, and each is on disk when its update resolves", async () => {
  const desk = await deskWith(ROUND);
  commits = 0;
  const up = (by: number) => (record: RoundRecord) => ({ ...record, bytes: { up: record.bytes.up + by, down: 0 } });
  await Promise.all(
    Array.from({ length: 200 }, async (_, i) => {
      await desk.update("u1", up(1), [{ put: { space: "said", key: String(i), value: Buffer.from("x") } }]);
      const onDisk = await (await opened()).read("u1");
      expect(onDisk!.bytes.up, `after update ${i}`).toBeGreaterThan(i);
    }),
  );
  expect(await journal.entries("said")).toHaveLength(200);
  expect(commits).toBeLessThan(10);
});

test("a change that fails to be written fails its update, and the desk says so", async () => {
  const faults: unknown[] = [];
  const desk = new RoundDesk(journal, (error) => faults.push(error));
  await desk.begin(ROUND, 1);
  const twice = { insert: { space: "once", key: "k", value: Buffer.from("x") } };
  await desk.update("u1", numberedAs(1), [twice]);
  await expect(desk.update("u1", numberedAs(2), [twice])).rejects.toThrow();
  expect(faults).toHaveLength(1);
});

test("an ended round that is put away is found by uid, name and number, and its record comes from the disk", async () => {
  const desk = await deskWith(ROUND, { ...ROUND, name: "r2", uid: "u2" });
  await desk.update("u1", numberedAs(7));
  const record = await desk.update("u1", ended);
  await desk.putAway("u1");
  for (const one of [desk, await opened()]) {
    expect(one.get("u1")).toBeUndefined();
    expect(one.isPutAway("u1")).toBe(true);
    expect(one.phase("u1")).toBe("Succeeded");
    expect(one.uidsNamed("r1")).toEqual(["u1"]);
    expect(one.names().sort()).toEqual(["r1", "r2"]);
    expect(await one.numbered("fed", 7)).toEqual(record);
    expect(one.open().map(({ uid }) => uid)).toEqual(["u2"]);
  }
});

test("an open round is not put away", async () => {
  const desk = await deskWith(ROUND);
  await desk.putAway("u1");
  expect(desk.get("u1")).toBeDefined();
});

test("a round that was put away can still change, also after a restart", async () => {
  const desk = await deskWith(ROUND);
  await desk.update("u1", ended);
  await desk.putAway("u1");
  await desk.update("u1", (record) => ({ ...record, bytes: { up: 5, down: 0 } }));
  expect((await (await opened()).read("u1"))!.bytes.up).toBe(5);
  await desk.putAway("u1");
  const again = await opened();
  expect(again.isPutAway("u1")).toBe(true);
  expect((await again.read("u1"))!.bytes.up).toBe(5);
});

test("a change while a round is being put away is not lost", async () => {
  const desk = await deskWith(ROUND);
  await desk.update("u1", ended);
  const [, changed] = await Promise.all([desk.putAway("u1"), desk.update("u1", numberedAs(3))]);
  expect(changed.number).toBe(3);
  expect(desk.get("u1")!.number).toBe(3);
  expect((await (await opened()).read("u1"))!.number).toBe(3);
});

test("what is forgotten leaves nothing, put away or not", async () => {
  const desk = await deskWith(ROUND, { ...ROUND, name: "r2", uid: "u2" });
  await desk.update("u1", numberedAs(1));
  await desk.update("u1", ended);
  await desk.putAway("u1");
  await Promise.all([desk.forget("u1"), desk.forget("u2")]);
  expect(desk.names()).toEqual([]);
  expect(await desk.numbered("fed", 1)).toBeUndefined();
  for (const space of ["rounds", "ended-rounds", "ended-index"])
    expect(await journal.entries(space), space).toEqual([]);
});

test("an update that waits while its round is forgotten does not bring it back", async () => {
  const desk = await deskWith(ROUND);
  await Promise.all([desk.update("u1", numberedAs(1)), desk.update("u1", numberedAs(2)), desk.forget("u1")]);
  expect(await journal.entries("rounds")).toEqual([]);
});
