import { expect, test } from "vitest";
import { Backoff, pause } from "./backoff.ts";
import { addressKey, RateLimit } from "./rate-limit.ts";

test("a burst passes, then so many a minute", () => {
  const limit = new RateLimit({ burst: 3, perMinute: 6, mostKeys: 10 });
  expect([0, 0, 0, 0].map((at) => limit.take("a", at))).toEqual([true, true, true, false]);
  expect(limit.take("a", 9_999)).toBe(false);
  expect(limit.take("a", 10_000)).toBe(true);
  expect(limit.take("a", 10_001)).toBe(false);
});

test("one address does not use up another's, and a clock that goes back gives nothing", () => {
  const limit = new RateLimit({ burst: 1, perMinute: 1, mostKeys: 10 });
  expect(limit.take("a", 1_000)).toBe(true);
  expect(limit.take("b", 1_000)).toBe(true);
  expect(limit.take("a", -1_000_000)).toBe(false);
});

test("of more addresses than it keeps it forgets the longest unseen", () => {
  const limit = new RateLimit({ burst: 1, perMinute: 1, mostKeys: 2 });
  for (const key of ["a", "b", "a", "c"]) limit.take(key, 0);
  expect(limit.take("a", 0)).toBe(false);
  expect(limit.take("b", 0)).toBe(true);
});

test("waits double up to their limit, and begin anew after a success", () => {
  const backoff = new Backoff({ firstMs: 100, mostMs: 400, random: () => 1 });
  expect([1, 2, 3, 4].map(() => backoff.next())).toEqual([100, 200, 400, 400]);
  backoff.reset();
  expect(backoff.next()).toBe(100);
  expect(new Backoff({ firstMs: 100, mostMs: 400, random: () => 0 }).next()).toBe(50);
});

test("a pause ends early with its signal", async () => {
  const stop = new AbortController();
  const paused = pause(60_000, stop.signal);
  stop.abort();
  await paused;
  await pause(60_000, stop.signal);
});

test.each([
  ["10.77.0.11:40112", "10.77.0.11"],
  ["::ffff:10.77.0.11:40112", "10.77.0.11"],
  ["2001:db8:1:2:3:4:5:6:40112", "2001:db8:1:2::/64"],
  ["2001:db8::5:40112", "2001:db8:0:0::/64"],
  ["fe80::1:2:3:4:40112", "fe80:0:0:0::/64"],
  ["::1:40112", "0:0:0:0::/64"],
  ["unknown", "unknown"],
])("%s is counted as %s", (peer, key) => expect(addressKey(peer)).toBe(key));
