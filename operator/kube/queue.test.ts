import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { WorkQueue } from "./queue.ts";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

const newQueue = () => new WorkQueue({ name: "test", baseDelayMs: 100, maxDelayMs: 1_000, random: () => 0.5 });

describe("a key", () => {
  test("added many times is taken once", async () => {
    const queue = newQueue();
    for (let i = 0; i < 5; i++) queue.add("a");
    expect(queue.depth).toBe(1);
    expect(await queue.take()).toBe("a");
    expect(queue.depth).toBe(0);
  });

  test("added while it is worked on comes again only after done", async () => {
    const queue = newQueue();
    queue.add("a");
    await queue.take();
    queue.add("a");
    queue.add("a");
    expect(queue.depth).toBe(0);
    queue.done("a");
    expect(queue.depth).toBe(1);
  });

  test("waits for its taker, or the taker for it, in order", async () => {
    const queue = newQueue();
    queue.add("a");
    queue.add("b");
    expect([await queue.take(), await queue.take()]).toEqual(["a", "b"]);
    const taken = queue.take();
    queue.add("c");
    expect(await taken).toBe("c");
  });

  test("added later comes then; of two delays the earlier counts", async () => {
    const queue = newQueue();
    queue.addAfter("a", 500);
    queue.addAfter("a", 200);
    queue.addAfter("a", 900);
    await vi.advanceTimersByTimeAsync(199);
    expect(queue.depth).toBe(0);
    await vi.advanceTimersByTimeAsync(1);
    expect(await queue.take()).toBe("a");
    queue.done("a");
    await vi.advanceTimersByTimeAsync(2_000);
    expect(queue.depth).toBe(0);
  });

  test("added now no longer waits for its delay", async () => {
    const queue = newQueue();
    queue.addAfter("a", 500);
    queue.add("a");
    expect(await queue.take()).toBe("a");
    queue.done("a");
    await vi.advanceTimersByTimeAsync(1_000);
    expect(queue.depth).toBe(0);
  });

  test("that fails waits twice as long each time, up to the maximum, and anew after forget", async () => {
    const queue = newQueue();
    const waits: number[] = [];
    for (let i = 0; i < 6; i++) {
      queue.addRateLimited("a");
      const start = Date.now();
      while (queue.depth === 0) await vi.advanceTimersByTimeAsync(50);
      waits.push(Date.now() - start);
      await queue.take();
      queue.done("a");
    }
    expect(waits).toEqual([100, 200, 400, 800, 1_000, 1_000]);
    queue.forget("a");
    expect(queue.failures("a")).toBe(0);
  });

  test("a month ahead does not come at once (setTimeout overflows)", async () => {
    const queue = newQueue();
    queue.addAfter("a", 40 * 86_400_000);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(queue.depth).toBe(0);
    await queue.shutDown();
  });
});

describe("shut down", () => {
  test("takers get undefined and what waits is dropped", async () => {
    const queue = newQueue();
    const taken = queue.take();
    await queue.shutDown();
    expect(await taken).toBeUndefined();
    queue.add("a");
    expect(await queue.take()).toBeUndefined();
  });

  test("waits for what is being worked on", async () => {
    const queue = newQueue();
    queue.add("a");
    await queue.take();
    let isDown = false;
    const down = queue.shutDown().then(() => {
      isDown = true;
    });
    await vi.advanceTimersByTimeAsync(10);
    expect(isDown).toBe(false);
    queue.done("a");
    await down;
  });
});

test("whatever the order of operations: no key is lost, and none is worked on twice at a time", async () => {
  const operation = fc.record({
    do: fc.constantFrom("add", "later", "fail", "take", "done"),
    key: fc.constantFrom("a", "b", "c"),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(operation, { maxLength: 60 }), async (operations) => {
      const queue = newQueue();
      const working = new Set<string>();
      const owed = new Set<string>();
      const take = async () => {
        const key = (await queue.take())!;
        expect(working.has(key), `${key} is worked on twice`).toBe(false);
        working.add(key);
        owed.delete(key);
      };
      for (const { do: what, key } of operations) {
        if (what === "take") {
          if (queue.depth > 0) await take();
        } else if (what === "done") {
          queue.done(key);
          working.delete(key);
        } else {
          owed.add(key);
          if (what === "add") queue.add(key);
          else if (what === "later") queue.addAfter(key, 300);
          else queue.addRateLimited(key);
        }
      }
      for (let turn = 0; turn < 10; turn++) {
        await vi.advanceTimersByTimeAsync(1_600);
        for (const key of [...working]) {
          queue.done(key);
          working.delete(key);
        }
        while (queue.depth > 0) await take();
      }
      expect([...owed]).toEqual([]);
      for (const key of working) queue.done(key);
      await queue.shutDown();
    }),
  );
});
