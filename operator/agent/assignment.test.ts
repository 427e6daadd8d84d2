import { expect, test } from "vitest";
import type { JobObservation } from "../trainer/observe-job.ts";
import { decide, type Facts, HOPELESS_PATIENCE_MS, report, type SessionFacts } from "./assignment.ts";
import type { Assignment, AssignmentState } from "./record.ts";

const assignment = (state: AssignmentState, more: Partial<Assignment> = {}): Assignment => ({
  schema: 1,
  federation: "example.org/fl/clinic-notes",
  round: 1,
  roundName: "clinic-notes-r1",
  attempt: 1,
  purpose: "delta",
  participant: "clinic-a",
  planHash: "00",
  deadlines: { acceptMs: 100, trainingMs: 1_000, aggregationMs: 2_000 },
  receivedMs: 0,
  job: "clinic-notes-r1-clinic-a-1",
  seed: 5,
  token: "t",
  state,
  stateSinceMs: 0,
  told: false,
  cleaned: false,
  ...more,
});

const job = (seen: Partial<JobObservation>): JobObservation => ({
  state: "Scheduling",
  reason: "PodPending",
  message: "",
  ...seen,
});
const running = job({ state: "Running", reason: "Running" });
const noGpu = job({ reason: "Unschedulable", message: "0/1 nodes are available: 1 Insufficient nvidia.com/gpu." });
const noImage = job({
  reason: "ImageUnavailable",
  message: "image x cannot be pulled (ErrImagePull)",
  hopeless: "soon",
});
const failed = (reason: string, message: unknown = expect.any(String)) => ({
  do: "enter",
  state: { kind: "Failed", reason, message },
});

const full = { reason: "StorageFull", message: "the volume is full" };
const accepted = { kind: "Accepted" } as const;
const created = { kind: "JobCreated" } as const;
const training = { kind: "Training" } as const;
const sealed = { kind: "Sealed", byteLength: 9, root: "aa" } as const;

const table: Array<{ says: string; state: AssignmentState; facts: Partial<Facts>; next: object }> = [
  { says: "accepted: begins", state: accepted, facts: {}, next: { do: "start" } },
  {
    says: "accepted and the Job could not be made by the accept deadline: the last problem is the reason",
    state: accepted,
    facts: { nowMs: 100, problem: { reason: "Forbidden", message: "quota" } },
    next: failed("Forbidden", "quota"),
  },
  {
    says: "accepted, and no room on the volume: waits",
    state: accepted,
    facts: { storage: full },
    next: { do: "wait", untilMs: 100 },
  },
  {
    says: "accepted, and no room until the accept deadline",
    state: accepted,
    facts: { nowMs: 100, storage: full, problem: { reason: "Timeout", message: "x" } },
    next: failed("StorageFull", full.message),
  },
  {
    says: "found in the ledger after the accept deadline",
    state: accepted,
    facts: { nowMs: 500 },
    next: failed("DeadlineExceeded"),
  },
  {
    says: "Job created, no pod yet: waits for the accept deadline",
    state: created,
    facts: { job: job({}) },
    next: { do: "wait", untilMs: 100 },
  },
  {
    says: "pod unschedulable: waits",
    state: created,
    facts: { nowMs: 99, job: noGpu },
    next: { do: "wait", untilMs: 100 },
  },
  {
    says: "pod unschedulable at the accept deadline: no capacity, in the scheduler's words",
    state: created,
    facts: { nowMs: 100, job: noGpu },
    next: failed("NoCapacity", noGpu.message),
  },
  {
    says: "pod on a node at the accept deadline and still pulling: goes on",
    state: created,
    facts: { nowMs: 100, job: job({ reason: "ContainerCreating" }) },
    next: { do: "wait", untilMs: 1_000 },
  },
  {
    says: "a quota refuses the pod at the accept deadline",
    state: created,
    facts: { nowMs: 100, job: job({ reason: "PodRefused", message: "quota" }) },
    next: failed("PodRefused", "quota"),
  },
  {
    says: "an image that cannot be pulled: patience first",
    state: created,
    facts: { nowMs: 50, job: noImage, hopelessSinceMs: 50 },
    next: { do: "wait", untilMs: 1_000 },
  },
  {
    says: "an image that still cannot be pulled",
    state: created,
    facts: { nowMs: 900, job: noImage, hopelessSinceMs: 900 - HOPELESS_PATIENCE_MS },
    next: failed("ImageUnavailable", noImage.message),
  },
  {
    says: "a command that cannot be run: at once",
    state: created,
    facts: { nowMs: 1, job: job({ reason: "CannotStart", message: "no such command", hopeless: "now" }) },
    next: failed("CannotStart", "no such command"),
  },
  {
    says: "a configuration that a node cannot use, after an eviction: at once too",
    state: training,
    facts: { nowMs: 500, job: job({ reason: "CreateContainerConfigError", message: "no key x", hopeless: "now" }) },
    next: failed("CreateContainerConfigError", "no key x"),
  },
  {
    says: "a volume that does not mount: waits for the accept deadline",
    state: created,
    facts: { nowMs: 99, job: job({ reason: "VolumeUnavailable", message: "no volume data" }) },
    next: { do: "wait", untilMs: 100 },
  },
  {
    says: "a volume that has not mounted by the accept deadline, while the pod holds its GPUs",
    state: created,
    facts: { nowMs: 100, job: job({ reason: "VolumeUnavailable", message: "no volume data" }) },
    next: failed("VolumeUnavailable", "no volume data"),
  },
  { says: "the pod runs", state: created, facts: { job: running }, next: { do: "enter", state: { kind: "Training" } } },
  {
    says: "training: waits for its deadline",
    state: training,
    facts: { nowMs: 500, job: running },
    next: { do: "wait", untilMs: 1_000 },
  },
  {
    says: "training, evicted and unschedulable after the accept deadline: waits",
    state: training,
    facts: { nowMs: 500, job: noGpu },
    next: { do: "wait", untilMs: 1_000 },
  },
  {
    says: "a trainer that never ends",
    state: training,
    facts: { nowMs: 1_000, job: running },
    next: failed("DeadlineExceeded"),
  },
  {
    says: "a pod that never ran has a better reason than the deadline",
    state: created,
    facts: { nowMs: 1_000, job: noGpu },
    next: failed("Unschedulable"),
  },
  {
    says: "a crash",
    state: training,
    facts: { job: job({ state: "Failed", reason: "TrainerCrashed", message: "exit code 1" }) },
    next: failed("TrainerCrashed", "exit code 1"),
  },
  {
    says: "a Job that somebody deleted",
    state: training,
    facts: { job: job({ state: "Missing" }) },
    next: failed("JobDeleted"),
  },
  {
    says: "a trainer that ended without a result",
    state: training,
    facts: { job: job({ state: "Succeeded" }) },
    next: failed("NoResult"),
  },
  {
    says: "trained: seals, whatever became of the Job",
    state: { kind: "Trained" },
    facts: { job: job({ state: "Missing" }) },
    next: { do: "seal" },
  },
  { says: "sealed: uploads", state: sealed, facts: { nowMs: 1_999 }, next: { do: "upload" } },
  { says: "sealed and too late", state: sealed, facts: { nowMs: 2_000 }, next: failed("UploadLate") },
  ...[accepted, created, training, { kind: "Trained" } as const, sealed].map((state) => ({
    says: `cancelled while ${state.kind}`,
    state,
    facts: { job: running, cancelled: { reason: "RoundFailed", message: "quorum lost" } },
    next: { do: "enter", state: { kind: "Cancelled", reason: "RoundFailed", message: "quorum lost" } },
  })),
  {
    says: "contributed: a late cancellation changes nothing",
    state: { kind: "Contributed" },
    facts: { cancelled: { reason: "RoundFailed", message: "" } },
    next: { do: "finish", clean: true, tell: true },
  },
];

const session = (facts: Partial<SessionFacts>): { session: SessionFacts } => ({
  session: { message: "unsent", isUploaded: false, isAsked: false, ...facts },
});
const cancelled = { reason: "RoundFailed", message: "quorum lost" };
const prepared = { kind: "Prepared" } as const;
const badShare = { reason: "BadShare", message: "the shares from clinic-b cannot be decrypted", accused: ["clinic-b"] };

const attemptEnded = { reason: "AttemptEnded", message: "another attempt runs" };
const later: Array<{ says: string; state?: AssignmentState; facts: Partial<Facts>; next: object }> = [
  {
    says: "its message was of an attempt that is over: waits for the next plan, and says nothing again",
    facts: session({ state: "SHARED", message: "refused", refusal: attemptEnded }),
    next: { do: "wait", untilMs: 2_000 },
  },
  {
    says: "its upload was of an attempt that is over: waits",
    facts: { ...session({ state: "MASKED" }), attemptOver: true },
    next: { do: "wait", untilMs: 2_000 },
  },
  {
    says: "neither a plan nor a cancellation came until the round's end: failed",
    facts: { ...session({ state: "MASKED" }), attemptOver: true, nowMs: 2_000 },
    next: failed("RoundEnded"),
  },
  {
    says: "cancelled meanwhile",
    facts: { ...session({ state: "MASKED" }), attemptOver: true, cancelled },
    next: { do: "enter", state: { kind: "Cancelled", ...cancelled } },
  },
  {
    says: "its shares were given: contributed, whatever attempt runs",
    facts: session({ state: "RELEASED", message: "refused", refusal: attemptEnded }),
    next: { do: "enter", state: { kind: "Contributed" } },
  },
  {
    says: "still training: goes on for the next attempt",
    state: training,
    facts: { attemptOver: true, job: running },
    next: { do: "wait", untilMs: 1_000 },
  },
];

test.each(later)("a later attempt has begun: $says", ({ state = prepared, facts, next }) => {
  expect(decide(assignment(state, { privacy: "secure" }), { nowMs: 0, ...facts })).toEqual(next);
});

const secure: Array<{ says: string; state?: AssignmentState; facts?: Partial<Facts>; next: object }> = [
  { says: "trained: makes its delta, and seals nothing", state: { kind: "Trained" }, next: { do: "prepare" } },
  { says: "the delta is there: shows its keys", facts: session({}), next: { do: "advertise" } },
  { says: "keys in the ledger: says them", facts: session({ state: "ADVERTISED" }), next: { do: "send" } },
  {
    says: "keys on their way: waits until the round's end",
    facts: session({ state: "ADVERTISED", message: "sent" }),
    next: { do: "wait", untilMs: 2_000 },
  },
  {
    says: "asked, before its own message was acknowledged: answers",
    facts: session({ state: "SHARED", message: "sent", isAsked: true }),
    next: { do: "answer" },
  },
  { says: "masked: uploads", facts: session({ state: "MASKED" }), next: { do: "uploadMasked" } },
  {
    says: "masked and uploaded: waits",
    facts: session({ state: "MASKED", isUploaded: true }),
    next: { do: "wait", untilMs: 2_000 },
  },
  { says: "signed: says so", facts: session({ state: "SIGNED" }), next: { do: "send" } },
  { says: "released: gives its shares", facts: session({ state: "RELEASED" }), next: { do: "send" } },
  {
    says: "its shares are with the operator: contributed",
    facts: session({ state: "RELEASED", message: "taken" }),
    next: { do: "enter", state: { kind: "Contributed" } },
  },
  {
    says: "released and cancelled: contributed all the same, for nothing can be taken back",
    facts: { ...session({ state: "RELEASED", message: "sent" }), cancelled },
    next: { do: "enter", state: { kind: "Contributed" } },
  },
  {
    says: "released and too late: contributed",
    facts: { ...session({ state: "RELEASED", message: "sent" }), nowMs: 2_000 },
    next: { do: "enter", state: { kind: "Contributed" } },
  },
  {
    says: "a failed check: failed, with who is accused",
    facts: session({ state: "ABORTED", problem: badShare }),
    next: { do: "enter", state: { kind: "Failed", ...badShare } },
  },
  {
    says: "a failed check and a cancellation: the check is what is told",
    facts: { ...session({ state: "ABORTED", problem: badShare }), cancelled },
    next: { do: "enter", state: { kind: "Failed", ...badShare } },
  },
  {
    says: "the operator does not take its message: failed in the operator's words",
    facts: session({
      state: "SHARED",
      message: "refused",
      refusal: { reason: "NotExpected", message: "the step is over" },
    }),
    next: failed("NotExpected", "the step is over"),
  },
  {
    says: "masked and too late: failed",
    facts: { ...session({ state: "MASKED" }), nowMs: 2_000 },
    next: failed("RoundEnded"),
  },
  {
    says: "cancelled while masked",
    facts: { ...session({ state: "MASKED" }), cancelled },
    next: { do: "enter", state: { kind: "Cancelled", ...cancelled } },
  },
];

test.each(secure)("a secure round: $says", ({ state = prepared, facts, next }) => {
  expect(decide(assignment(state, { privacy: "secure" }), { nowMs: 0, ...facts })).toEqual(next);
});

test("a secure assignment is Trained until its keys' shares are out, and Sharing from then on", () => {
  const progress = { step: 2, steps: 8 };
  const told = (facts: Partial<SessionFacts>) =>
    report(assignment(prepared, { privacy: "secure" }), session(facts), progress)?.state;
  expect(told({})).toBe("Trained");
  expect(told({ state: "ADVERTISED" })).toBe("Trained");
  expect(told({ state: "SHARED" })).toBe("Sharing");
  expect(told({ state: "RELEASED" })).toBe("Sharing");
});

test.each(table)("$says", ({ state, facts, next }) => {
  expect(decide(assignment(state), { nowMs: 0, ...facts })).toEqual(next);
});

test("an end is told and cleaned up, each once", () => {
  const end = { kind: "Failed", reason: "X", message: "y" } as const;
  expect(decide(assignment(end, { told: true }), { nowMs: 0 })).toEqual({ do: "finish", clean: true, tell: false });
  expect(decide(assignment(end, { told: true, cleaned: true }), { nowMs: 0 })).toEqual({ do: "nothing" });
});

test("the operator is told state, reason and progress, and nothing of the data", () => {
  const progress = { step: 2, steps: 8 };
  expect(report(assignment(created), { job: noGpu }, progress)).toMatchObject({
    state: "Scheduling",
    reason: "Unschedulable",
    message: noGpu.message,
  });
  expect(report(assignment(training), { job: running }, progress)).toEqual({
    state: "Training",
    step: 2,
    steps: 8,
    reason: "",
    message: "",
  });
  expect(report(assignment({ kind: "Trained" }), {}, progress)).toMatchObject({ state: "Trained", step: 8 });
  expect(report(assignment(sealed), {}, progress)).toMatchObject({ state: "Sharing", step: 8 });
  expect(report(assignment(accepted), {}, progress)).toBeUndefined();
  expect(report(assignment(accepted), { storage: full }, progress)).toEqual({
    ...progress,
    state: "Scheduling",
    ...full,
  });
  expect(report(assignment(training), { job: running, storage: full }, progress)).toMatchObject({
    state: "Training",
    ...full,
  });
});
