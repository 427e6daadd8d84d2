/** What lies in journals must be read for as long as its schema number is the same. */
import { expect, test } from "vitest";
import { decodeRecord, encodeRecord } from "./record.ts";
import { pending } from "./testing/worlds.ts";

/** As it was written before there were attempts, samples and metrics. */
const WRITTEN = `{"schema":1,"name":"fed-r1","uid":"u1","federation":"fed","attempt":1,"phase":"Publishing","phaseTimes":[{"phase":"Pending","atMs":1},{"phase":"Planning","atMs":2},{"phase":"Training","atMs":3},{"phase":"Aggregating","atMs":4},{"phase":"Publishing","atMs":5}],"participants":[{"name":"ann","state":"Contributed","job":"fed-r1-ann-1","progress":{"step":20,"steps":20},"reason":"","message":"","sinceMs":4,"startedMs":3},{"name":"ben","state":"Lost","job":"","reason":"NoAnswer","message":"not connected","sinceMs":4}],"contributions":[{"participant":"ann","root":"aa","byteLength":100,"file":"/spool/aa"}],"bytes":{"up":100,"down":0},"number":1,"plan":{"hash":"ab","parentVersion":0,"minimum":1,"uploadLimitBytes":1000,"parentByteLength":500},"deadlines":{"acceptMs":10,"trainingMs":20,"aggregationMs":30},"aggregationMs":10,"candidate":{"digest":"sha256:cc","file":"/adapters/cc","byteLength":500,"contributors":1}}`;

test("a record that was written before there were attempts is one of attempt 1 that may have no other", () => {
  const record = decodeRecord(new TextEncoder().encode(WRITTEN));
  expect(record).toEqual(JSON.parse(WRITTEN));
  expect(record).toMatchObject({ attempt: 1, phase: "Publishing" });
  expect(record.plan).not.toHaveProperty("retries");
});

test("a record of another schema, or with a field that this program does not know, is refused and not guessed at", () => {
  const altered = (change: object) => new TextEncoder().encode(JSON.stringify({ ...pending(), ...change }));
  expect(() => decodeRecord(altered({ schema: 2 }))).toThrow();
  expect(() => decodeRecord(altered({ surprise: true }))).toThrow();
});

test("a record is the same when it was written and read", () => {
  const next = { cohorts: [["ann", "ben", "cy"]], deadlines: { kind: "anew" as const, withinMs: 5 } };
  const record = { ...pending(), attempt: 2, attempts: { failed: 1, removals: 0 }, next };
  expect(decodeRecord(encodeRecord(record))).toEqual(record);
});
