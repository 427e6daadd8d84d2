import { pino } from "pino";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { isDiskFull, Storage } from "./storage.ts";

const MIB = 2 ** 20;
let free = 0;
let nowMs = 0;
let storage: Storage;
let changes: Array<string | undefined>;

beforeEach(() => {
  vi.useFakeTimers();
  free = 1000 * MIB;
  nowMs = 0;
  changes = [];
  storage = new Storage({
    folder: "/data",
    reserveBytes: 64 * MIB,
    log: pino({ level: "silent" }),
    now: () => nowMs,
    freeBytes: async () => free,
  });
  storage.changed = () => changes.push(storage.problem);
});
afterEach(() => {
  storage.stop();
  vi.useRealTimers();
});

const pass = async (ms: number) => {
  nowMs += ms;
  await vi.advanceTimersByTimeAsync(ms);
};

test("a volume that fills is noticed within five seconds, told once, and nothing new is let in", async () => {
  await storage.start();
  storage.requireRoom();
  free = 60 * MIB;
  await pass(5_000);
  expect(storage.problem).toMatch(/^the operator's volume \(\/data\) is full: 80 MiB must be free; enlarge it/);
  expect(() => storage.requireRoom()).toThrow(/is full/);
  free = 10 * MIB;
  await pass(20_000);
  expect(changes).toHaveLength(1);
});

test("room is there again when it is more than the reserve, so that one upload does not end it", async () => {
  free = 60 * MIB;
  await storage.start();
  free = 70 * MIB;
  await pass(5_000);
  expect(storage.problem).toBeDefined();
  free = 81 * MIB;
  await pass(1_000);
  expect(changes.map((problem) => problem === undefined)).toEqual([false, true]);
  storage.requireRoom();
});

test("a write that found no room is believed at once", async () => {
  await storage.start();
  storage.noteFull();
  expect(() => storage.requireRoom()).toThrow(/is full/);
  await pass(1_000);
  expect(storage.problem).toBeUndefined();
});

test("an upload that is larger than what is left is told of, while smaller ones come in", async () => {
  await storage.start();
  storage.noteWanted(5_000 * MIB);
  expect(storage.problem).toMatch(/5000 MiB must be free/);
  storage.requireRoom();
  free = 6_000 * MIB;
  await pass(1_000);
  expect(storage.problem).toBeUndefined();
});

test("what nobody asks for again within a minute is not waited for", async () => {
  await storage.start();
  storage.noteWanted(5_000 * MIB);
  await pass(59_000);
  expect(storage.problem).toBeDefined();
  await pass(2_000);
  expect(storage.problem).toBeUndefined();
});

test("a journal that waits for room is full until it says otherwise, whatever the volume says", async () => {
  await storage.start();
  storage.noteJournal(true);
  await pass(10_000);
  expect(storage.journalIsFull).toBe(true);
  expect(() => storage.requireRoom()).toThrow();
  storage.noteJournal(false);
  expect(storage.problem).toBeUndefined();
});

test.each([
  { says: "an error of the file system", error: Object.assign(new Error("x"), { code: "ENOSPC" }), full: true },
  { says: "a fault of the journal", error: { code: "DiskFull" }, full: true },
  { says: "what a thread said", error: new Error("ENOSPC: no space left on device, write"), full: true },
  { says: "a cause", error: new Error("x", { cause: { code: "ENOSPC" } }), full: true },
  { says: "another error", error: Object.assign(new Error("x"), { code: "EIO" }), full: false },
  { says: "nothing", error: undefined, full: false },
])("$says says of a full disk: $full", ({ error, full }) => expect(isDiskFull(error)).toBe(full));
