import { setImmediate } from "node:timers/promises";
import { expect, test } from "vitest";
import { Effects } from "./effects.ts";

const settled = () => setImmediate();

test("a piece of work runs once at a time, and its end wakes its key", async () => {
  const woken: string[] = [];
  const effects = new Effects(
    (key) => woken.push(key),
    () => 5,
  );
  const work = Promise.withResolvers<number>();
  effects.start("r1", "push", () => work.promise);
  effects.start("r1", "push", () => Promise.reject(new Error("a second one")));
  expect(effects.isRunning("r1", "push")).toBe(true);
  work.resolve(7);
  await settled();
  expect(effects.result("r1", "push")).toEqual({ kind: "done", value: 7 });
  expect(woken).toEqual(["r1"]);
});

test("failures in a row are counted, and the last one is kept while the next try runs", async () => {
  const effects = new Effects(
    () => {},
    () => 5,
  );
  for (const tries of [1, 2]) {
    effects.start("r1", "push", () => Promise.reject(new Error("down")));
    await settled();
    expect(effects.result("r1", "push")).toMatchObject({ kind: "failed", atMs: 5, tries });
  }
  effects.start("r1", "push", () => new Promise(() => {}));
  expect(effects.result("r1", "push")).toMatchObject({ tries: 2 });
});

test("what is forgotten is aborted and wakes nobody", async () => {
  const woken: string[] = [];
  const effects = new Effects(
    (key) => woken.push(key),
    () => 5,
  );
  const aborted = Promise.withResolvers<void>();
  effects.start("r1", "push", (signal) => {
    signal.addEventListener("abort", () => aborted.resolve());
    return aborted.promise;
  });
  effects.forget("r1");
  await settled();
  expect(woken).toEqual([]);
  expect(effects.result("r1", "push")).toBeUndefined();
});

test("stop waits for what runs", async () => {
  const effects = new Effects(
    () => {},
    () => 5,
  );
  let ended = false;
  effects.start("r1", "push", async (signal) => {
    await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
    ended = true;
  });
  await effects.stop();
  expect(ended).toBe(true);
});

test("an abort does not cover up what an earlier try met", async () => {
  const effects = new Effects(
    () => {},
    () => 5,
  );
  effects.start("r1", "push", () => Promise.reject(new Error("down")));
  await settled();
  effects.start(
    "r1",
    "push",
    (signal) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))),
  );
  effects.abort("r1", "push");
  await settled();
  expect(effects.isRunning("r1", "push")).toBe(false);
  expect(effects.result("r1", "push")).toMatchObject({ error: new Error("down") });
});

test("work that throws before it waits for anything has failed, and may be started again", async () => {
  const effects = new Effects(
    () => {},
    () => 5,
  );
  effects.start("r1", "plan", () => {
    throw new Error("no Federation");
  });
  await settled();
  expect(effects.isRunning("r1", "plan")).toBe(false);
  expect(effects.result("r1", "plan")).toMatchObject({ kind: "failed", tries: 1 });
  effects.start("r1", "plan", async () => "made");
  await settled();
  expect(effects.result("r1", "plan")).toEqual({ kind: "done", value: "made" });
});
