import { expect, test } from "vitest";
import type { AgentReport } from "./coordinator.ts";
import { decodeReport, encodeReport } from "./reports.ts";

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
];

test.each(good)("a report of kind $kind arrives as it was sent", (report) => {
  expect(decodeReport(report.kind, encodeReport(report), "clinic-a")).toEqual(report);
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
];

test.each(bad)("a report $says is refused", ({ report }) => {
  expect(() => decodeReport(report.kind, encodeReport(report), "clinic-a")).toThrow(
    expect.objectContaining({ code: "MessageInvalid" }),
  );
});
