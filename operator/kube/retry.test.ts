import { expect, test } from "vitest";
import type { KubeFaultCode } from "./faults.ts";
import { retryDelayMs } from "./retry.ts";

const after = (code: KubeFaultCode, more: { wasSent?: boolean; retryAfterMs?: number } = {}) => ({
  code,
  wasSent: true,
  ...more,
});

test.each([
  { says: "a read is sent again after 500", fault: after("ServerError"), idempotent: true, delay: 100 },
  { says: "a create is not: it may have been done", fault: after("ServerError"), idempotent: false, delay: undefined },
  { says: "a read is sent again after a cut connection", fault: after("Unreachable"), idempotent: true, delay: 100 },
  { says: "a create is not", fault: after("Unreachable"), idempotent: false, delay: undefined },
  {
    says: "a create that found no server is",
    fault: after("Unreachable", { wasSent: false }),
    idempotent: false,
    delay: 100,
  },
  { says: "429 is sent again, whatever it is", fault: after("TooManyRequests"), idempotent: false, delay: 100 },
  {
    says: "Retry-After counts",
    fault: after("TooManyRequests", { retryAfterMs: 2_000 }),
    idempotent: true,
    delay: 2_000,
  },
  { says: "a timeout is not sent again: the time is up", fault: after("Timeout"), idempotent: true, delay: undefined },
  { says: "a conflict is the caller's", fault: after("Conflict"), idempotent: true, delay: undefined },
])("$says", ({ fault, idempotent, delay }) => expect(retryDelayMs(fault, 0, idempotent, 0.5)).toBe(delay));

test("delays double, are jittered, and end", () => {
  const delays = [0, 1, 2, 3, 4].map((attempt) => retryDelayMs(after("ServerError"), attempt, true, 0.5));
  expect(delays).toEqual([100, 200, 400, 800, undefined]);
  expect(retryDelayMs(after("ServerError"), 0, true, 0)).toBe(50);
});
