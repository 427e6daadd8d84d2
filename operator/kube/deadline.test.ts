import { getEventListeners } from "node:events";
import { expect, test } from "vitest";
import { startDeadline } from "./deadline.ts";

test("it aborts in time and says so", async () => {
  const deadline = startDeadline(20);
  await new Promise((resolve) => deadline.signal.addEventListener("abort", resolve));
  expect(deadline.isOver()).toBe(true);
  expect(String(deadline.signal.reason)).toBe("Error: not within 20 ms");
});

test("it aborts with the outer signal, even one aborted before, and is then not over", () => {
  const outer = new AbortController();
  const deadline = startDeadline(60_000, outer.signal);
  outer.abort("stop");
  expect([deadline.signal.reason, deadline.isOver()]).toEqual(["stop", false]);
  expect(startDeadline(60_000, outer.signal).signal.aborted).toBe(true);
  deadline.end();
});

test("ended, it leaves nothing on the outer signal and never aborts", async () => {
  const outer = new AbortController();
  const deadline = startDeadline(20, outer.signal);
  expect(getEventListeners(outer.signal, "abort")).toHaveLength(1);
  deadline.end();
  expect(getEventListeners(outer.signal, "abort")).toHaveLength(0);
  await new Promise((resolve) => setTimeout(resolve, 40));
  expect(deadline.signal.aborted).toBe(false);
});
