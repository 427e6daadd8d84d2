import { describe, expect, test } from "vitest";
import { applyContribution, applyReport, isProgressOnly, type Report, uploadFault } from "./reports.ts";
import { contribution, T0, training } from "./testing/worlds.ts";

const status = (over: Partial<Extract<Report, { kind: "status" }>>): Report => ({
  kind: "status",
  state: "Training",
  job: "",
  step: 0,
  steps: 0,
  reason: "",
  message: "",
  ...over,
});

describe("reports", () => {
  test.each([
    { says: "an invited participant accepts", from: "Invited", report: { kind: "accept" }, to: "Accepted" },
    {
      says: "an acceptance that comes again changes nothing",
      from: "Training",
      report: { kind: "accept" },
      to: "Training",
    },
    {
      says: "a refusal is final",
      from: "Invited",
      report: { kind: "refuse", reason: "ImageNotAllowed", message: "policy" },
      to: "Refused",
    },
    { says: "a pod waits for a GPU", from: "Accepted", report: status({ state: "Scheduling" }), to: "Scheduling" },
    {
      says: "an evicted pod is scheduled again",
      from: "Training",
      report: status({ state: "Scheduling" }),
      to: "Scheduling",
    },
    {
      says: "what was trained is never untrained",
      from: "Trained",
      report: status({ state: "Training" }),
      to: "Trained",
    },
    { says: "an unknown state is no state", from: "Training", report: status({ state: "Dancing" }), to: "Training" },
    {
      says: "a site cannot call itself Contributed",
      from: "Trained",
      report: status({ state: "Contributed" }),
      to: "Trained",
    },
    {
      says: "a failure is final",
      from: "Training",
      report: { kind: "fail", reason: "NonFinite", message: "3 values" },
      to: "Failed",
    },
    {
      says: "a contribution outlives a late failure",
      from: "Contributed",
      report: { kind: "fail", reason: "X", message: "" },
      to: "Contributed",
    },
    { says: "who is Lost stays lost", from: "Lost", report: status({}), to: "Lost" },
  ] as const)("$says", ({ from, report, to }) => {
    expect(applyReport(training(from), "ann", report, T0).participants[0]!.state).toBe(to);
  });

  test("the same report again gives the very same record", () => {
    const once = applyReport(training("Accepted"), "ann", status({ step: 3, steps: 20 }), T0 + 5);
    expect(applyReport(once, "ann", status({ step: 3, steps: 20 }), T0 + 9)).toBe(once);
  });

  test("progress alone is told apart from a change of state", () => {
    const before = applyReport(training("Accepted"), "ann", status({ step: 3, steps: 20 }), T0);
    expect(isProgressOnly(before, applyReport(before, "ann", status({ step: 4, steps: 20 }), T0 + 5))).toBe(true);
    expect(isProgressOnly(before, applyReport(before, "ann", status({ state: "Trained" }), T0 + 5))).toBe(false);
  });

  test("what a site writes becomes one short line", () => {
    const report: Report = {
      kind: "fail",
      reason: "not a word!",
      message: `line 1\nline\u001b[31m 2 ${"x".repeat(400)}`,
    };
    const { reason, message } = applyReport(training("Training"), "ann", report, T0).participants[0]!;
    expect(reason).toBe("Failed");
    expect(message).toMatch(/^line 1 line \[31m 2 x+…$/);
    expect(message).toHaveLength(256);
  });
});

describe("uploads", () => {
  const upload = { participant: "ann", root: "aa", byteLength: 100 };
  test.each([
    { says: "a trained participant may upload", record: training("Trained"), upload, code: undefined },
    {
      says: "a stranger may not",
      record: training("Trained"),
      upload: { ...upload, participant: "eve" },
      code: "NotExpected",
    },
    { says: "who refused may not", record: training("Refused"), upload, code: "NotExpected" },
    {
      says: "more than was planned may not come",
      record: training("Trained"),
      upload: { ...upload, byteLength: 1001 },
      code: "TooLarge",
    },
    { says: "the same contribution again is known", record: training("Contributed"), upload, code: undefined },
    {
      says: "another one is refused",
      record: training("Contributed"),
      upload: { ...upload, root: "bb" },
      code: "Conflict",
    },
    {
      says: "an ended round takes nothing",
      record: { ...training("Trained"), phase: "Failed" as const },
      upload,
      code: "NotExpected",
    },
  ])("$says", ({ record, upload: asked, code }) => {
    expect(uploadFault(record, asked, T0)?.code).toBe(code);
  });

  test("nothing is admitted after the aggregation deadline", () => {
    expect(uploadFault(training("Trained"), upload, T0 + 720_000)?.code).toBe("NotExpected");
  });

  test("a contribution counts its bytes once", () => {
    const once = applyContribution(training("Sharing"), contribution("ann"), T0);
    expect(once.participants[0]!.state).toBe("Contributed");
    expect(once.bytes.up).toBe(100);
    expect(applyContribution(once, contribution("ann"), T0)).toBe(once);
  });
});
