import { pino } from "pino";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { AgentStorage, isDiskFull } from "./storage.ts";

const MiB = 2 ** 20;
let space: { free: number; total: number };
let storage: AgentStorage;
let seen: Array<string | undefined>;

beforeEach(() => {
  vi.useFakeTimers();
  space = { free: 3000 * MiB, total: 5000 * MiB };
  seen = [];
  storage = new AgentStorage({ folder: "/data", log: pino({ level: "silent" }), spaceOf: async () => space });
  storage.changed = () => seen.push(storage.problem?.reason);
});
afterEach(() => {
  storage.stop();
  vi.useRealTimers();
});

test("a volume below its reserve is full, and has room again when a quarter more than that is free", async () => {
  await storage.start();
  expect(storage.problem).toBeUndefined();
  space.free = 63 * MiB;
  await vi.advanceTimersByTimeAsync(5_000);
  space.free = 79 * MiB;
  await vi.advanceTimersByTimeAsync(5_000);
  expect(seen).toEqual(["StorageFull"]);
  space.free = 81 * MiB;
  await vi.advanceTimersByTimeAsync(1_000);
  expect(seen).toEqual(["StorageFull", undefined]);
});

test("of a small volume an eighth is kept", async () => {
  space = { free: 13 * MiB, total: 100 * MiB };
  await storage.start();
  expect(storage.problem).toBeUndefined();
  space.free = 12 * MiB;
  await vi.advanceTimersByTimeAsync(5_000);
  expect(storage.problem?.reason).toBe("StorageFull");
});

test("a write that found no room is told at once, and a ledger that waits is full until it does not", async () => {
  await storage.start();
  storage.noteFull();
  expect(storage.problem?.reason).toBe("StorageFull");
  await vi.advanceTimersByTimeAsync(1);
  expect(storage.problem).toBeUndefined();
  storage.noteLedger(true);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(storage.problem?.reason).toBe("StorageFull");
  storage.noteLedger(false);
  expect(storage.problem).toBeUndefined();
  expect(seen).toEqual(["StorageFull", undefined, "StorageFull", undefined]);
});

test("a full disk is known by its code, its cause or a thread's words", () => {
  expect(isDiskFull(Object.assign(new Error("x"), { code: "ENOSPC" }))).toBe(true);
  expect(isDiskFull(new Error("masking failed", { cause: { code: "DiskFull" } }))).toBe(true);
  expect(isDiskFull(new Error("ENOSPC: no space left on device, write"))).toBe(true);
  expect(isDiskFull(new Error("EACCES"))).toBe(false);
  expect(isDiskFull(undefined)).toBe(false);
});
