import { expect, test } from "vitest";
import { rosterProblems } from "./rosters.ts";

const pinned = (participant: string, fingerprint = `SHA256:${participant}`) => ({
  participant,
  fingerprint,
  state: "pinned" as const,
});
const site = (participant: string, ...entries: Parameters<typeof rosterProblems>[0][number]["entries"]) => ({
  participant,
  fingerprint: `SHA256:${participant}`,
  entries,
});

test("sites that have pinned each other's keys have nothing to say", () => {
  const sites = [
    site("a", pinned("b"), pinned("c")),
    site("b", pinned("a"), pinned("c")),
    site("c", pinned("a"), pinned("b")),
  ];
  expect(rosterProblems(sites)).toEqual([]);
});

test("a key that its owner does not have is named, with both fingerprints", () => {
  expect(rosterProblems([site("a", pinned("b", "SHA256:operator")), site("b", pinned("a"))])).toEqual([
    "a has pinned SHA256:operator for b, which has SHA256:b",
  ]);
});

test("a site that masks against nobody's confirmed key is named, also when the key is only proposed", () => {
  const proposed = { ...pinned("b"), state: "proposed" as const };
  expect(rosterProblems([site("a", proposed), site("b")])).toEqual(["a has not pinned b", "b has not pinned a"]);
});
