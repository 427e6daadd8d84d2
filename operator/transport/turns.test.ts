import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Turns } from "./turns.ts";

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

/** Works that begin when it is their turn, and end when they are told to. */
function works(turns: Turns, count: number) {
  const begun: number[] = [];
  const ends = Array.from({ length: count }, () => Promise.withResolvers<void>());
  const done = ends.map(({ promise }, i) =>
    turns.take(() => {
      begun.push(i);
      return promise;
    }),
  );
  return { begun, ends, done };
}

const settled = () => vi.advanceTimersByTimeAsync(0);

test("as many as may be begin at once, the others in their order when one has ended", async () => {
  const { begun, ends } = works(new Turns({ atOnce: 2, patienceMs: 1000 }), 4);
  await settled();
  expect(begun).toEqual([0, 1]);
  ends[1]!.resolve();
  await settled();
  expect(begun).toEqual([0, 1, 2]);
});

test("one that fails gives its turn away too", async () => {
  const { begun, ends, done } = works(new Turns({ atOnce: 1, patienceMs: 1000 }), 2);
  const failure = expect(done[0]).rejects.toThrow("cut");
  ends[0]!.reject(new Error("cut"));
  await failure;
  await settled();
  expect(begun).toEqual([0, 1]);
});

test("nobody waits for the slow for longer than the patience", async () => {
  const { begun } = works(new Turns({ atOnce: 2, patienceMs: 1000 }), 6);
  await vi.advanceTimersByTimeAsync(999);
  expect(begun).toEqual([0, 1]);
  await vi.advanceTimersByTimeAsync(1);
  expect(begun).toEqual([0, 1, 2, 3]);
  await vi.advanceTimersByTimeAsync(1000);
  expect(begun).toEqual([0, 1, 2, 3, 4, 5]);
});

test("a slow one that ends at last gives no second turn away", async () => {
  const { begun, ends } = works(new Turns({ atOnce: 1, patienceMs: 1000 }), 3);
  await vi.advanceTimersByTimeAsync(1000);
  expect(begun).toEqual([0, 1]);
  ends[0]!.resolve();
  await settled();
  expect(begun).toEqual([0, 1]);
});
