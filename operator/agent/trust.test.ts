import { expect, test } from "vitest";
import { fingerprintOf, judgeTrust } from "./trust.ts";

const key = (byte: number) => Buffer.alloc(32, byte).toString("base64");
const roster = [
  { participant: "clinic-a", identity: key(1) },
  { participant: "clinic-b", identity: key(2) },
  { participant: "clinic-c", identity: key(3) },
];
const plan = { federation: "example.org/rondo/clinic-notes", roster };
const firstUse = { mode: "firstUse" as const, roster: [] };
const pins = new Map([
  ["clinic-b", key(2)],
  ["clinic-c", key(3)],
]);

test("the first plan's keys are to be pinned, but for this site's own", () => {
  expect(judgeTrust(plan, "clinic-a", firstUse, new Map())).toEqual({ verdict: "pin", keys: roster.slice(1) });
});

test("a roster of pinned keys is trusted, a smaller one too", () => {
  expect(judgeTrust(plan, "clinic-a", firstUse, pins)).toEqual({ verdict: "trusted" });
  const smaller = { ...plan, roster: roster.slice(0, 2) };
  expect(judgeTrust(smaller, "clinic-a", firstUse, pins)).toEqual({ verdict: "trusted" });
});

test("a changed and an added key are refused by name, and proposed", () => {
  const changed = { participant: "clinic-c", identity: key(9) };
  const added = { participant: "clinic-d", identity: key(4) };
  const other = { ...plan, roster: [...roster.slice(0, 2), changed, added] };
  expect(judgeTrust(other, "clinic-a", firstUse, pins)).toEqual({
    verdict: "refuse",
    reason: "RosterChanged",
    message:
      "the roster has clinic-c with another key than this site has pinned, and clinic-d, whom this site has not pinned; its people compare fingerprints and accept: rondo agent roster",
    proposed: [changed, added],
  });
});

test("a site whose pins are lost with its ledger does not pin anew by itself: its first use is over", () => {
  expect(judgeTrust(plan, "clinic-a", firstUse, new Map(), true)).toMatchObject({
    verdict: "refuse",
    reason: "RosterChanged",
    proposed: roster.slice(1),
  });
  expect(judgeTrust(plan, "clinic-a", firstUse, pins, true)).toEqual({ verdict: "trusted" });
});

test("in mode pinned only keys that the site's file lists are trusted, also at first sight", () => {
  const listed = roster.slice(1).map((entry) => ({ federation: "example.org/*", ...entry }));
  const trust = { mode: "pinned" as const, roster: listed };
  expect(judgeTrust(plan, "clinic-a", trust, new Map())).toEqual({ verdict: "trusted" });
  expect(judgeTrust(plan, "clinic-a", { ...trust, roster: listed.slice(1) }, pins)).toMatchObject({
    reason: "RosterNotPinned",
    message: "policy: trust.roster does not list clinic-b with the key that the roster has",
    proposed: [roster[1]],
  });
  const elsewhere = listed.map((entry) => ({ ...entry, federation: "other.org/*" }));
  expect(judgeTrust(plan, "clinic-a", { ...trust, roster: elsewhere }, pins)).toMatchObject({ verdict: "refuse" });
});

test("a sentence about many keys still fits a status", () => {
  const many = Array.from({ length: 200 }, (_, at) => ({ participant: `clinic-${at + 100}`, identity: key(at + 10) }));
  const verdict = judgeTrust({ ...plan, roster: many }, "clinic-a", firstUse, pins);
  expect(verdict).toMatchObject({ message: expect.stringMatching(/clinic-100, clinic-101, clinic-102 and 197 more/) });
  if (verdict.verdict === "refuse") expect(verdict.message.length).toBeLessThanOrEqual(256);
});

test("a fingerprint is what OpenSSH would show of 32 bytes", () => {
  // printf '\0%.0s' {1..32} | sha256sum | xxd -r -p | base64
  expect(fingerprintOf(Buffer.alloc(32).toString("base64"))).toBe("SHA256:Zmh6rfhivXdsj8GLjp+OIAiXFIVu4jOzkCpZHQ1fKSU");
});
