import { describe, expect, test } from "vitest";
import { type Participant, participantSchema } from "../api/participant.ts";
import { candidatesOf, identityOf, selects } from "./selector.ts";

const key = `${"A".repeat(43)}=`;
const participant = (name: string, spec: object = {}, metadata: object = {}): Participant =>
  participantSchema.parse({
    apiVersion: "rondo.dev/v1alpha1",
    kind: "Participant",
    metadata: {
      name,
      namespace: "n",
      uid: name,
      resourceVersion: "1",
      generation: 1,
      creationTimestamp: "",
      ...metadata,
    },
    spec,
  });

describe("selects", () => {
  const labels = { sector: "health", size: "large" };
  test.each([
    { says: "the empty selector takes everybody", selector: {}, yes: true },
    { says: "a label that is there", selector: { matchLabels: { sector: "health" } }, yes: true },
    { says: "a label with another value", selector: { matchLabels: { sector: "bank" } }, yes: false },
    { says: "all labels must match", selector: { matchLabels: { sector: "health", size: "small" } }, yes: false },
    {
      says: "In",
      selector: { matchExpressions: [{ key: "size", operator: "In", values: ["small", "large"] }] },
      yes: true,
    },
    {
      says: "In, absent",
      selector: { matchExpressions: [{ key: "region", operator: "In", values: ["eu"] }] },
      yes: false,
    },
    {
      says: "NotIn, absent",
      selector: { matchExpressions: [{ key: "region", operator: "NotIn", values: ["eu"] }] },
      yes: true,
    },
    {
      says: "NotIn",
      selector: { matchExpressions: [{ key: "size", operator: "NotIn", values: ["large"] }] },
      yes: false,
    },
    { says: "Exists", selector: { matchExpressions: [{ key: "size", operator: "Exists" }] }, yes: true },
    { says: "DoesNotExist", selector: { matchExpressions: [{ key: "size", operator: "DoesNotExist" }] }, yes: false },
  ] as const)("$says", ({ selector, yes }) => {
    expect(selects(selector as Parameters<typeof selects>[0], labels)).toBe(yes);
  });
});

describe("candidates", () => {
  test("a key of an earlier enrolment does not count", () => {
    const identity = { ed25519: key, enrolment: 1 };
    expect(identityOf(participant("ann", { enrolment: 1, identity }))).toBe(key);
    expect(identityOf(participant("ann", { enrolment: 2, identity }))).toBeUndefined();
  });

  test("who is being deleted counts as suspended, and the order is by name", () => {
    const gone = participant("ann", {}, { deletionTimestamp: "2026-01-01T00:00:00Z" });
    expect(candidatesOf({}, [participant("ben"), gone])).toEqual([
      { name: "ann", enrolled: false, suspended: true },
      { name: "ben", enrolled: false, suspended: false },
    ]);
  });
});
