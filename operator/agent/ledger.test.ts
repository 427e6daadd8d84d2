/** What the ledger keeps for secure aggregation, on a real journal: sessions and their secrets, spent parents, pins, draws. */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Journal } from "../journal/journal.ts";
import { openJournal } from "../journal/open.ts";
import { Ledger } from "./ledger.ts";
import { acceptKey, rosterView } from "./roster.ts";
import type { SessionRow } from "./secagg/session-record.ts";
import { fingerprintOf } from "./trust.ts";

let folder: string;
let journal: Journal;
let ledger: Ledger;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rondo-ledger-"));
  await startAgain();
});
afterEach(async () => {
  await journal.close();
  await rm(folder, { recursive: true });
});

async function startAgain(): Promise<void> {
  journal = await openJournal(join(folder, "ledger.db"));
  ledger = new Ledger(journal);
}

const federation = "example.org/rondo/clinic-notes";
const parent = `sha256:${"1".repeat(64)}`;
const session = (round: number) => ({ federation, round, attempt: 1, purpose: "delta" });
const row = (state: SessionRow["state"]): SessionRow => ({ schema: 1, state, sinceMs: 5, open: "{}" });
const onDisk = async () => {
  const files = await Promise.all(
    ["ledger.db", "ledger.db-wal"].map((name) => readFile(join(folder, name)).catch(() => Buffer.alloc(0))),
  );
  return Buffer.concat(files);
};

test("a session's secrets are on disk while its state needs them, and in no byte of it once the next state is written", async () => {
  await ledger.sessions.save(session(1), { row: row("ADVERTISED"), secrets: "the first secret" });
  expect((await onDisk()).includes("the first secret")).toBe(true);
  await ledger.sessions.save(session(1), { row: row("SHARED"), secrets: "the other secret" });
  expect((await onDisk()).includes("the first secret")).toBe(false);
  expect(await ledger.sessions.load(session(1))).toEqual({ row: row("SHARED"), secrets: "the other secret" });
  await ledger.sessions.save(session(1), { row: row("RELEASED") });
  expect((await onDisk()).includes("the other secret")).toBe(false);
  expect(await ledger.sessions.load(session(1))).toEqual({ row: row("RELEASED") });
});

test("a parent is used up by rounds that masked from it, also when several mask at once", async () => {
  const mask = (round: number) =>
    ledger.sessions.saveMasked({ ...session(round), parent, limit: 3 }, { row: row("MASKED"), secrets: "s" });
  const tries = await Promise.allSettled([mask(1), mask(2), mask(3), mask(4), mask(2)]);
  expect(tries.map(({ status }) => status)).toEqual(["fulfilled", "fulfilled", "fulfilled", "rejected", "fulfilled"]);
  expect(await ledger.sessions.load(session(4))).toBeUndefined();
  expect(await ledger.sessions.spentByOthers({ federation, round: 2, attempt: 1, parent })).toBe(2);
  expect(await ledger.sessions.spentByOthers({ federation, round: 9, attempt: 1, parent })).toBe(3);
  expect(await ledger.sessions.spentByOthers({ federation: "made.up/ns/other", round: 2, attempt: 1, parent })).toBe(3);
  expect(await ledger.sessions.highestMasked(federation)).toBe(3);
  const other = `sha256:${"2".repeat(64)}`;
  await ledger.sessions.saveMasked({ ...session(5), parent: other, limit: 3 }, { row: row("MASKED") });
  expect(await ledger.sessions.spentByOthers({ federation, round: 6, attempt: 1, parent: other })).toBe(1);
});

const keys = [
  { participant: "clinic-b", identity: Buffer.alloc(32, 2).toString("base64") },
  { participant: "clinic-c", identity: Buffer.alloc(32, 3).toString("base64") },
];
const changed = { participant: "clinic-c", identity: Buffer.alloc(32, 9).toString("base64") };
const firstUse = { mode: "firstUse" as const, roster: [] };
const own = { participant: "clinic-a", identity: Buffer.alloc(32, 1).toString("base64"), trust: firstUse };

async function pinned(): Promise<void> {
  await journal.commit(ledger.pins.firstUse(federation, keys, 1_000));
  await ledger.pins.propose({ federation, round: 7 }, [changed], 2_000);
}

test("a proposed key is pinned by its own fingerprint alone, and outlives a restart until then", async () => {
  await pinned();
  await journal.close();
  await startAgain();
  const accept = (fingerprint: string) =>
    acceptKey(ledger.pins, firstUse, { participant: "clinic-c", fingerprint }, 3_000);
  await expect(accept(fingerprintOf(keys[1]!.identity))).rejects.toThrow(
    `the proposed key of clinic-c in ${federation} is ${fingerprintOf(changed.identity)}, not ${fingerprintOf(keys[1]!.identity)}; nothing was changed`,
  );
  expect((await ledger.pins.of(federation)).get("clinic-c")).toBe(keys[1]!.identity);
  expect(await accept(fingerprintOf(changed.identity))).toMatchObject({ federation, participant: "clinic-c" });
  expect((await ledger.pins.of(federation)).get("clinic-c")).toBe(changed.identity);
  expect(await ledger.pins.proposals()).toEqual([]);
  await expect(accept(fingerprintOf(changed.identity))).rejects.toThrow("no plan has proposed a new key of clinic-c");
});

test("where several federations propose a key of one participant, one has to be named", async () => {
  await pinned();
  await ledger.pins.propose({ federation: "example.org/rondo/other", round: 1 }, [changed], 2_000);
  const fingerprint = fingerprintOf(changed.identity);
  const accept = (of?: string) =>
    acceptKey(ledger.pins, firstUse, { participant: "clinic-c", fingerprint, federation: of }, 3_000);
  await expect(accept()).rejects.toThrow(/name one with --federation/);
  expect(await accept("other")).toMatchObject({ federation: "example.org/rondo/other" });
});

test("a site that lists keys in its file accepts none from elsewhere", async () => {
  await pinned();
  const trust = { mode: "pinned" as const, roster: [{ federation: "*", ...keys[0]! }] };
  const fingerprint = fingerprintOf(changed.identity);
  await expect(acceptKey(ledger.pins, trust, { participant: "clinic-c", fingerprint }, 3_000)).rejects.toThrow(
    /policy\.trust\.mode is pinned/,
  );
  const view = await rosterView(ledger.pins, { ...own, trust });
  expect(view.entries.map(({ participant, state }) => `${participant} ${state}`)).toEqual([
    "clinic-b listed",
    "clinic-b unused",
    "clinic-c unused",
    "clinic-c unlisted",
  ]);
});

test("a roster shows a proposal behind the pin that it would replace", async () => {
  await pinned();
  const { entries, fingerprint, mode } = await rosterView(ledger.pins, own);
  expect({ fingerprint, mode }).toEqual({ fingerprint: fingerprintOf(own.identity), mode: "firstUse" });
  expect(
    entries.map(({ participant, state, by, replaces, round }) => ({ participant, state, by, replaces, round })),
  ).toEqual([
    { participant: "clinic-b", state: "pinned", by: "firstUse", replaces: false, round: null },
    { participant: "clinic-c", state: "pinned", by: "firstUse", replaces: false, round: null },
    { participant: "clinic-c", state: "proposed", by: null, replaces: true, round: 7 },
  ]);
});
