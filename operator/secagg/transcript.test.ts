/** The worked example of secure-aggregation.md §2, to the bit; then that nothing in it can be exchanged unnoticed. */
import { expect, test } from "vitest";
import { hex, sha256, utf8 } from "./bytes.ts";
import { contextHash, rosterHash, type SessionContext, t1, t2 } from "./transcript.ts";

const h = (text: string) => sha256(utf8(text));
const members = ["clinic-a", "clinic-b", "clinic-c"].map((participant, i) => ({
  participant,
  identity: h(`id${i + 1}`),
}));
const context: SessionContext = {
  federation: "example.org/rondo/clinic-notes",
  round: 9,
  attempt: 1,
  cohort: 0,
  purpose: "delta",
  rosterHash: rosterHash(members),
  baseModelHash: h("base"),
  globalAdapterHash: h("adapter"),
  planHash: h("plan"),
};
const c0 = contextHash(context);
const advertised = [1, 2, 3].map((index) => ({
  index,
  cPk: h(`c${index}`),
  sPk: h(`s${index}`),
  cmB: h(`cm${index}`),
}));
const transcript1 = t1(c0, advertised);
const inputs = [1, 3].map((index) => ({ index, root: h(`root${index}`) }));

test.each([
  {
    name: "rosterHash",
    value: context.rosterHash,
    expected: "8ec57f7dd44075431fa9b607dfebd28d67a143ab0054a1e5ad357f696095fc30",
  },
  { name: "C0", value: c0, expected: "67b694630b5c62e4bd129370666df867fa70016f39d3a166c7501f3259729f7f" },
  { name: "T1", value: transcript1, expected: "5d0362fa2c0817aabe47dd1203ddf2b238a551467c40f0f48f4921b830fa8c66" },
  {
    name: "T2",
    value: t2(transcript1, [1, 2, 3], inputs),
    expected: "de913a6e6a852da884aa0c2e66171db4b1a3585629ec2968581a6f09020a8e25",
  },
])("$name is the worked example's", ({ value, expected }) => expect(hex(value)).toBe(expected));

test.each<Partial<SessionContext>>([
  { federation: "example.org/rondo/clinic-note" },
  { round: 10 },
  { attempt: 2 },
  { cohort: 1 },
  { purpose: "evaluation" },
  { rosterHash: rosterHash(members.slice(1)) },
  { baseModelHash: h("another") },
  { globalAdapterHash: h("another") },
  { planHash: h("another") },
])("another %o is another context", (other) => expect(hex(contextHash({ ...context, ...other }))).not.toBe(hex(c0)));

test("a member moved from U2 to U3 is another T2", () => {
  const roots = [1, 2, 3].map((index) => ({ index, root: h(`root${index}`) }));
  const all = [
    t2(transcript1, [1, 2, 3], roots),
    t2(transcript1, [1, 2, 3], roots.slice(1)),
    t2(transcript1, [2, 3], roots.slice(1)),
    t2(transcript1, [1, 2, 3], [...roots].reverse()),
  ].map(hex);
  expect(new Set(all).size).toBe(all.length);
});
