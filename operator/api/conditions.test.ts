import { describe, expect, test } from "vitest";
import {
  CONDITION_MESSAGE_MAX,
  type Condition,
  type ConditionUpdate,
  conditionSchema,
  findCondition,
  isTrue,
  READY,
  RECONCILING,
  removeCondition,
  STALLED,
  SUCCEEDED,
  setCondition,
  summarise,
} from "./conditions.ts";

const T0 = Date.UTC(2026, 0, 1, 12, 0, 0, 250);
const ready: ConditionUpdate = { type: READY, status: "False", reason: "Initialising", message: "making version 0" };

describe("setCondition", () => {
  test("a new condition carries the time in whole seconds", () => {
    expect(setCondition([], ready, T0)).toEqual([{ ...ready, lastTransitionTime: "2026-01-01T12:00:00Z" }]);
  });

  test("the time stays while only reason and message change", () => {
    const first = setCondition([], ready, T0);
    const [second] = setCondition(
      first,
      { ...ready, reason: "InitialiseFailed", message: "no such image" },
      T0 + 60_000,
    );
    expect(second).toMatchObject({ reason: "InitialiseFailed", lastTransitionTime: "2026-01-01T12:00:00Z" });
  });

  test("the time moves with the status", () => {
    const first = setCondition([], ready, T0);
    const [second] = setCondition(first, { ...ready, status: "True" }, T0 + 60_000);
    expect(second!.lastTransitionTime).toBe("2026-01-01T12:01:00Z");
  });

  test("other conditions stay, in their order, and the old list is untouched", () => {
    const before = setCondition(setCondition([], ready, T0), { ...ready, type: "Other" }, T0);
    const copy = structuredClone(before);
    expect(setCondition(before, { ...ready, status: "True" }, T0).map((c) => c.type)).toEqual([READY, "Other"]);
    expect(before).toEqual(copy);
  });
});

test("a message longer than the API server takes is cut, not refused", () => {
  const [condition] = setCondition([], { ...ready, message: "x".repeat(3000) }, T0);
  expect(condition!.message).toHaveLength(CONDITION_MESSAGE_MAX);
  expect(conditionSchema.safeParse(condition).success).toBe(true);
});

describe("summarise", () => {
  const at = { observedGeneration: 3, nowMs: T0 };
  const types = (conditions: Condition[]) => Object.fromEntries(conditions.map((c) => [c.type, c.status]));

  test.each([
    { state: "done", shows: { [SUCCEEDED]: "True" } },
    { state: "progressing", shows: { [SUCCEEDED]: "Unknown", [RECONCILING]: "True" } },
    { state: "waiting", shows: { [SUCCEEDED]: "False" } },
    { state: "stalled", shows: { [SUCCEEDED]: "False", [STALLED]: "True" } },
  ] as const)("$state", ({ state, shows }) => {
    const outcome = { state, reason: "QuorumLost", message: "1 of 3 contributions arrived" };
    expect(types(summarise([], SUCCEEDED, outcome, at))).toEqual(shows);
  });

  test("Reconciling is removed, not set to False, when the work ends", () => {
    const running = summarise([], SUCCEEDED, { state: "progressing", reason: "Training", message: "" }, at);
    const ended = summarise(running, SUCCEEDED, { state: "stalled", reason: "QuorumLost", message: "" }, at);
    expect(types(ended)).toEqual({ [SUCCEEDED]: "False", [STALLED]: "True" });
    expect(findCondition(ended, SUCCEEDED)).toMatchObject({ reason: "QuorumLost", observedGeneration: 3 });
  });
});

test("looking up and removing", () => {
  const conditions = setCondition([], { ...ready, status: "True" }, T0);
  expect(isTrue(conditions, READY)).toBe(true);
  expect(isTrue(undefined, READY)).toBe(false);
  expect(removeCondition(conditions, READY)).toEqual([]);
});
