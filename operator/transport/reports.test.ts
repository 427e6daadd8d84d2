import { expect, test } from "vitest";
import type { AgentReport } from "./coordinator.ts";
import { MOST_PROTOCOL_BYTES } from "./limits.ts";
import { decodeReport, encodeReport, mostBytesOf } from "./reports.ts";

const work = (step: string) => ({
  federation: "demo.rondo.dev/rondo/notes",
  round: 1,
  attempt: 1,
  purpose: "delta",
  participant: "clinic-a",
  step,
});
const planHash = new Uint8Array(32).fill(1);
const status = { job: "r1-clinic-a-1", state: "Training", progressStep: 1, progressSteps: 8, reason: "", message: "" };

const bytes = (length: number, of = 1) => new Uint8Array(length).fill(of);
const advertisement = { index: 1, cPk: bytes(32), sPk: bytes(32, 2), cmB: bytes(32, 3), signature: bytes(64) };
const advertise = (changed: Partial<typeof advertisement> = {}): AgentReport => ({
  kind: "advertise",
  body: { work: work("advertise"), planHash, advertisement: { ...advertisement, ...changed } },
});
const share = (indexes: number[], { ack = bytes(64), ciphertext = bytes(80) } = {}): AgentReport => ({
  kind: "share",
  body: { work: work("share"), ack, shares: indexes.map((index) => ({ index, ciphertext })) },
});
const unmask = (indexes: number[], value = bytes(32)): AgentReport => ({
  kind: "unmask",
  body: {
    work: work("unmask"),
    shares: indexes.map((index) => ({
      index,
      share: index % 2 ? { $case: "selfShare", value } : { $case: "pairShare", value },
    })),
  },
});
const drawWork = (step: string, attempt = 1) => ({ ...work(step), purpose: "draw", attempt });
const everybody = Array.from({ length: 128 }, (_, n) => n + 1);

const good: AgentReport[] = [
  { kind: "accept", body: { work: work("accept"), planHash } },
  {
    kind: "refuse",
    body: { work: work("refuse"), planHash, reason: "ImageForbidden", message: "The image is not allowed" },
  },
  { kind: "status", body: { work: work("status"), ...status } },
  {
    kind: "fail",
    body: { work: work("fail"), accused: [], reason: "TrainerCrashed", message: "The trainer ended with code 1" },
  },
  {
    kind: "fail",
    body: {
      work: work("fail"),
      accused: everybody.map((n) => `clinic-${n}`.padEnd(63, "x")),
      reason: "BadShare",
      message: "x".repeat(256),
    },
  },
  advertise(),
  share([2, 3, 128]),
  share(everybody.slice(1)),
  { kind: "consistency", body: { work: work("consistency"), signature: bytes(64) } },
  unmask([1, 2, 128]),
  unmask(everybody),
  { kind: "commit", body: { work: drawWork("commit", 3), commitment: bytes(32), signature: bytes(64) } },
  { kind: "reveal", body: { work: drawWork("reveal"), nonce: bytes(32) } },
];

test.each(good)("a report of kind $kind arrives as it was sent", (report) => {
  const body = encodeReport(report);
  expect(body.length).toBeLessThanOrEqual(mostBytesOf(report.kind));
  expect(decodeReport(report.kind, body, "clinic-a")).toEqual(report);
});

test("a report of secure aggregation may have 64 KiB, any other 16", () => {
  expect(mostBytesOf("unmask")).toBe(MOST_PROTOCOL_BYTES);
  expect(mostBytesOf("fail")).toBe(16 * 2 ** 10);
});

const bad: Array<{ says: string; report: AgentReport }> = [
  { says: "without its work", report: { kind: "accept", body: { work: undefined, planHash } } },
  {
    says: "with a short plan hash",
    report: { kind: "accept", body: { work: work("accept"), planHash: planHash.subarray(1) } },
  },
  {
    says: "without a reason",
    report: { kind: "fail", body: { work: work("fail"), accused: [], reason: "", message: "x" } },
  },
  {
    says: "with a reason that is a sentence",
    report: { kind: "fail", body: { work: work("fail"), accused: [], reason: "It broke", message: "x" } },
  },
  {
    says: "with a message of 257 characters",
    report: { kind: "fail", body: { work: work("fail"), accused: [], reason: "X", message: "x".repeat(257) } },
  },
  {
    says: "with a terminal's escape",
    report: { kind: "fail", body: { work: work("fail"), accused: [], reason: "X", message: "\u001b[2J" } },
  },
  {
    says: "with an unknown state",
    report: { kind: "status", body: { work: work("status"), ...status, state: "Dreaming" } },
  },
  {
    says: "with more steps done than there are",
    report: { kind: "status", body: { work: work("status"), ...status, progressStep: 9 } },
  },
  {
    says: "with a job name of 254 characters",
    report: { kind: "status", body: { work: work("status"), ...status, job: "j".repeat(254) } },
  },
  {
    says: "that accuses 129 participants",
    report: {
      kind: "fail",
      body: { work: work("fail"), accused: [...everybody, 129].map((n) => `c${n}`), reason: "BadShare", message: "" },
    },
  },
  ...["", "x".repeat(64), "Clinic B", "a\u001b[2J"].map((name) => ({
    says: `that accuses ${JSON.stringify(name)}`,
    report: {
      kind: "fail",
      body: { work: work("fail"), accused: [name], reason: "BadShare", message: "" },
    } satisfies AgentReport,
  })),
  {
    says: "that advertises nothing",
    report: { kind: "advertise", body: { work: work("advertise"), planHash, advertisement: undefined } },
  },
  { says: "that advertises for index 0", report: advertise({ index: 0 }) },
  { says: "that advertises for index 129", report: advertise({ index: 129 }) },
  { says: "with a c_pk of 31 bytes", report: advertise({ cPk: bytes(31) }) },
  { says: "with an s_pk of 33 bytes", report: advertise({ sPk: bytes(33) }) },
  { says: "with a cm_b of no bytes", report: advertise({ cmB: bytes(0) }) },
  { says: "with an advertisement's signature of 63 bytes", report: advertise({ signature: bytes(63) }) },
  { says: "with an ack of 65 bytes", report: share([1, 2], { ack: bytes(65) }) },
  { says: "with a ciphertext of 79 bytes", report: share([1, 2], { ciphertext: bytes(79) }) },
  { says: "without shares", report: share([]) },
  { says: "with shares for 129", report: share([...everybody, 129]) },
  { says: "with the same member twice", report: share([2, 2, 3]) },
  { says: "with members out of order", report: share([3, 2]) },
  { says: "with shares for index 0", report: share([0, 1]) },
  {
    says: "with a t2 signature of 32 bytes",
    report: { kind: "consistency", body: { work: work("consistency"), signature: bytes(32) } },
  },
  { says: "that unmasks nobody", report: unmask([]) },
  { says: "that unmasks one twice", report: unmask([1, 1]) },
  { says: "with a share of 16 bytes", report: unmask([1, 2], bytes(16)) },
  {
    says: "with neither share of a member",
    report: { kind: "unmask", body: { work: work("unmask"), shares: [{ index: 1, share: undefined }] } },
  },
  {
    says: "with a commitment of 31 bytes",
    report: { kind: "commit", body: { work: drawWork("commit"), commitment: bytes(31), signature: bytes(64) } },
  },
  {
    says: "with a draw's signature of 1 byte",
    report: { kind: "commit", body: { work: drawWork("commit"), commitment: bytes(32), signature: bytes(1) } },
  },
  {
    says: "with a nonce of 64 bytes",
    report: { kind: "reveal", body: { work: drawWork("reveal"), nonce: bytes(64) } },
  },
  { says: "for a fourth draw", report: { kind: "reveal", body: { work: drawWork("reveal", 4), nonce: bytes(32) } } },
  { says: "of a draw for purpose delta", report: { kind: "reveal", body: { work: work("reveal"), nonce: bytes(32) } } },
  {
    says: "of a session for purpose draw",
    report: { kind: "consistency", body: { work: drawWork("consistency"), signature: bytes(64) } },
  },
];

test.each(bad)("a report $says is refused", ({ report }) => {
  expect(() => decodeReport(report.kind, encodeReport(report), "clinic-a")).toThrow(
    expect.objectContaining({ code: "MessageInvalid" }),
  );
});

test("of a member's two shares a message can carry one: of both on the wire the last counts", () => {
  const one = encodeReport({
    kind: "unmask",
    body: { work: work("unmask"), shares: [{ index: 1, share: { $case: "selfShare", value: bytes(32, 1) } }] },
  });
  // index 1, then field 2 and field 3 of the oneof
  const both = Buffer.concat([Buffer.from([8, 1, 18, 32]), bytes(32, 1), Buffer.from([26, 32]), bytes(32, 2)]);
  const workOnly = Buffer.from(encodeReport({ kind: "unmask", body: { work: work("unmask"), shares: [] } }));
  const body = Buffer.concat([workOnly, Buffer.from([18, both.length]), both]);
  expect(decodeReport("unmask", one, "clinic-a").body).toMatchObject({ shares: [{ share: { $case: "selfShare" } }] });
  expect(decodeReport("unmask", body, "clinic-a").body).toMatchObject({
    shares: [{ index: 1, share: { $case: "pairShare", value: Buffer.from(bytes(32, 2)) } }],
  });
});

test.each(["advertise", "share", "consistency", "unmask", "commit", "reveal"] as const)(
  "bytes that are no %s are refused",
  (kind) => {
    for (const body of [Buffer.from("not protobuf"), Buffer.alloc(0), Buffer.alloc(100, 0xff)]) {
      expect(() => decodeReport(kind, body, "clinic-a")).toThrow(expect.objectContaining({ code: "MessageInvalid" }));
    }
  },
);
