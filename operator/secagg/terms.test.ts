import { expect, test } from "vitest";
import type { Plan } from "../round/plan.ts";
import { hex, sha256, utf8 } from "./bytes.ts";
import { sessionTerms } from "./terms.ts";

const members = ["clinic-a", "clinic-b", "clinic-c", "clinic-d"];

/** The part of a plan that terms follow from. */
const plan = {
  federation: "example.org/rondo/clinic-notes",
  round: 9,
  attempt: 1,
  purpose: "delta",
  roster: members.map((participant) => ({ participant, identity: Buffer.alloc(32).toString("base64") })),
  baseModel: { digest: `sha256:${"1".repeat(64)}` },
  parent: { digest: `sha256:${"2".repeat(64)}` },
  tensors: [{ name: "a", shape: [2, 5] }],
  secure: {
    ring: "u32",
    largestCohort: 4,
    cohorts: [{ members, threshold: 2 }],
    scales: [{ clip: "0.5", scale: "2" }],
    metrics: [{ name: "tokens", scale: 1, perTensor: false }],
  },
} as unknown as Plan;
const planHash = sha256(utf8("plan"));
const pinOf = (participant: string) => sha256(utf8(`pin of ${participant}`));
const c0Of = (change: Partial<Plan>) => hex(sessionTerms({ ...plan, ...change } as Plan, planHash, 0, pinOf).c0);

test("the members are the cohort's, each with the key that the reader has pinned, not the plan's", () => {
  const { members: known } = sessionTerms(plan, planHash, 0, pinOf);
  expect(known.map(({ participant }) => participant)).toEqual(members);
  expect(known.map(({ identity }) => hex(identity))).toEqual(members.map(pinOf).map(hex));
});

test("the threshold is computed, whatever the plan says", () =>
  expect(sessionTerms(plan, planHash, 0, pinOf).threshold).toBe(3));

test("the length of a vector is that of its layout", () => {
  expect(sessionTerms(plan, planHash, 0, pinOf).byteLength).toBe(4 * (10 + 1 + 2));
});

test.each<{ says: string; change: Partial<Plan> }>([
  { says: "round", change: { round: 10 } },
  { says: "attempt", change: { attempt: 2 } },
  { says: "federation", change: { federation: "example.org/rondo/others" } },
  { says: "parent adapter", change: { parent: { ...plan.parent, digest: `sha256:${"3".repeat(64)}` } } },
  { says: "base model", change: { baseModel: { ...plan.baseModel, digest: `sha256:${"3".repeat(64)}` } } },
])("another $says is another session", ({ change }) => expect(c0Of(change)).not.toBe(c0Of({})));

test("another plan, another pin of one member and another cohort are other sessions", () => {
  const two = { ...plan, secure: { ...plan.secure!, cohorts: [0, 1].map(() => plan.secure!.cohorts[0]!) } };
  const contexts = [
    sessionTerms(plan, planHash, 0, pinOf),
    sessionTerms(plan, sha256(planHash), 0, pinOf),
    sessionTerms(plan, planHash, 0, (name) => (name === "clinic-c" ? sha256(planHash) : pinOf(name))),
    sessionTerms(two, planHash, 1, pinOf),
  ].map(({ c0 }) => hex(c0));
  expect(new Set(contexts).size).toBe(contexts.length);
});

test("a plan without that cohort has no such session", () => {
  expect(() => sessionTerms(plan, planHash, 1, pinOf)).toThrow("no cohort 1");
  expect(() => sessionTerms({ ...plan, secure: undefined }, planHash, 0, pinOf)).toThrow(RangeError);
});
