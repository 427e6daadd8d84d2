/**
 * What one assignment does next: a function of its durable record and of what is seen now. States and arrows: record.ts.
 * Holds: pure, so that a restart at any instruction decides as if nothing had happened; each wait has an instant at which it ends.
 * Does not: do it (work.ts).
 */
import { type JobObservation, sentence } from "../trainer/observe-job.ts";
import { ATTEMPT_ENDED } from "./link.ts";
import { type Assignment, type AssignmentState, hasEnded } from "./record.ts";
import type { SessionProblem, SessionState } from "./secagg/session-record.ts";

export interface Facts {
  nowMs: number;
  /** Only in JobCreated and Training. */
  job?: JobObservation;
  /** Since when the observation has been hopeless without a break. */
  hopelessSinceMs?: number;
  /** The operator says that the round is over for this site. */
  cancelled?: { reason: string; message: string };
  /** The operator has begun another attempt, of which this agent has not heard: the next plan or a cancellation is on its way. */
  attemptOver?: boolean;
  /** Why the last try of a step failed, where it may be tried again. */
  problem?: { reason: string; message: string };
  /** Only in Prepared. */
  session?: SessionFacts;
  /** The agent's volume has no room. */
  storage?: { reason: string; message: string };
}

/** Where the session of secure aggregation stands, and what this process has done of it. */
export interface SessionFacts {
  /** Absent: it has not begun. */
  state?: SessionState;
  /** Of ABORTED. */
  problem?: SessionProblem;
  /** The state's message, M0, M1, M3 or M4: not yet sent by this process, on its way, journalled by the operator, or refused for good. */
  message: "unsent" | "sent" | "taken" | "refused";
  /** The operator's sentence of a message that it refused. */
  refusal?: { reason: string; message: string };
  /** The operator holds the whole masked vector, as this process has seen. */
  isUploaded: boolean;
  /** The operator has asked something that is not answered yet. */
  isAsked: boolean;
}

export type Step =
  /** Fetch the parent, create Secret and Job, and enter JobCreated. */
  | { do: "start" }
  /** Look again when something changes, and at this instant. */
  | { do: "wait"; untilMs: number }
  /** Persist this state and decide again. */
  | { do: "enter"; state: AssignmentState }
  /** Delta, clip, seal; enter Sealed. */
  | { do: "seal" }
  /** Upload until the receipt; enter Contributed. */
  | { do: "upload" }
  /** Delta and clip; enter Prepared. */
  | { do: "prepare" }
  /** Of the session: its first row and M0; what the operator asked; the state's message again; the masked vector. */
  | { do: "advertise" }
  | { do: "answer" }
  | { do: "send" }
  | { do: "uploadMasked" }
  /** Of an ended assignment: delete Job, Secret, files and token; give the operator the last word. */
  | { do: "finish"; clean: boolean; tell: boolean }
  | { do: "nothing" };

/** Of what is hopeless `soon`. kubelet tries a pull again after 10 s: one hiccup of a registry is forgiven, a wrong image is not waited for. */
export const HOPELESS_PATIENCE_MS = 20_000;

/** The scheduler has had no answer, or a refusal: the pod is on no node. */
const NOT_PLACED = new Set(["Unschedulable", "SchedulingGated", "PodPending", "Suspended", "SchedulerError"]);

/** What keeps a pod from being made, or from starting on the node that holds its GPUs already: the site's people have to do something. */
const NOT_RUNNABLE = new Set(["PodRefused", "VolumeUnavailable"]);

export function decide(assignment: Assignment, facts: Facts): Step {
  const { state, deadlines } = assignment;
  if (hasEnded(assignment)) {
    const step = { do: "finish", clean: !assignment.cleaned, tell: !assignment.told } as const;
    return step.clean || step.tell ? step : { do: "nothing" };
  }
  if (facts.cancelled && !isSessionOver(facts))
    return { do: "enter", state: { kind: "Cancelled", ...facts.cancelled } };
  switch (state.kind) {
    case "Accepted":
      return begin(assignment, facts);
    case "JobCreated":
    case "Training":
      return followJob(assignment, facts);
    case "Trained":
      return facts.nowMs >= deadlines.aggregationMs ? fail("UploadLate", LATE_UPLOAD) : afterTraining(assignment);
    case "Sealed":
      if (facts.nowMs >= deadlines.aggregationMs) return fail("UploadLate", LATE_UPLOAD);
      return facts.attemptOver ? { do: "wait", untilMs: deadlines.aggregationMs } : { do: "upload" };
    case "Prepared":
      return followSession(assignment, facts);
    default:
      return { do: "nothing" };
  }
}

function begin({ deadlines }: Assignment, { nowMs, storage, problem }: Facts): Step {
  if (nowMs < deadlines.acceptMs) return storage ? { do: "wait", untilMs: deadlines.acceptMs } : { do: "start" };
  const why = storage ?? problem;
  return why ? fail(why.reason, why.message) : fail("DeadlineExceeded", LATE_START);
}

function afterTraining({ privacy }: Assignment): Step {
  return privacy === "secure" ? { do: "prepare" } : { do: "seal" };
}

/** Shares are out, or a check has failed: whatever comes now, that is what the assignment ends with. */
function isSessionOver({ session }: Facts): boolean {
  return session?.state === "RELEASED" || session?.state === "ABORTED";
}

function followSession({ deadlines }: Assignment, facts: Facts): Step {
  const session = facts.session ?? NOT_BEGUN;
  const isLate = facts.nowMs >= deadlines.aggregationMs;
  if (session.state === "ABORTED") return { do: "enter", state: { kind: "Failed", ...endOf(session) } };
  if (session.state === "RELEASED") {
    const isOver = session.message === "taken" || session.message === "refused" || isLate || facts.cancelled;
    if (isOver) return { do: "enter", state: { kind: "Contributed" } };
  }
  if (isLate) return fail("RoundEnded", LATE_SESSION);
  const isOver = facts.attemptOver || (session.message === "refused" && session.refusal?.reason === ATTEMPT_ENDED);
  if (isOver) return { do: "wait", untilMs: deadlines.aggregationMs };
  if (session.message === "refused") {
    return fail(
      session.refusal?.reason ?? "NotExpected",
      session.refusal?.message ?? "the operator goes on without this site",
    );
  }
  if (session.state === undefined) return { do: "advertise" };
  if (session.isAsked) return { do: "answer" };
  if (session.state === "MASKED" && !session.isUploaded) return { do: "uploadMasked" };
  if (session.state !== "MASKED" && session.message === "unsent") return { do: "send" };
  return { do: "wait", untilMs: deadlines.aggregationMs };
}

const NOT_BEGUN: SessionFacts = { message: "unsent", isUploaded: false, isAsked: false };

function endOf({ problem }: SessionFacts): SessionProblem {
  return problem ?? { reason: "Aborted", message: "the session of secure aggregation was ended", accused: [] };
}

const LATE_SESSION = "the aggregation deadline passed before the operator had opened the sum";
const LATE_START = "the accept deadline passed before the trainer's Job could be created";
const LATE_UPLOAD = "the aggregation deadline passed before the operator had the contribution";

/** Trained is not entered here: the task API does that, before it answers the trainer. */
function followJob(assignment: Assignment, facts: Facts): Step {
  const { deadlines } = assignment;
  const { job, nowMs } = facts;
  if (nowMs >= deadlines.trainingMs) {
    // A pod that never ran has a better reason than the deadline it missed.
    const stuck = job?.state === "Scheduling" && job.message !== "";
    return stuck
      ? fail(job.reason, job.message)
      : fail("DeadlineExceeded", "the trainer did not end by the training deadline and was stopped");
  }
  switch (job?.state) {
    case undefined:
      return { do: "wait", untilMs: deadlines.trainingMs };
    case "Missing":
      return fail("JobDeleted", "the trainer's Job was deleted at the site before it ended");
    case "Failed":
      return fail(job.reason, job.message);
    case "Succeeded":
      return fail(
        "NoResult",
        "the trainer ended without delivering a result; its image must keep the trainer contract",
      );
    case "Running":
      if (assignment.state.kind === "JobCreated") return { do: "enter", state: { kind: "Training" } };
      return { do: "wait", untilMs: deadlines.trainingMs };
    case "Scheduling":
      return followScheduling(assignment, job, facts);
  }
}

function followScheduling(assignment: Assignment, job: JobObservation, facts: Facts): Step {
  const { acceptMs, trainingMs } = assignment.deadlines;
  if (job.hopeless === "now") return fail(job.reason, job.message);
  if (job.hopeless) {
    const givenUpMs = (facts.hopelessSinceMs ?? facts.nowMs) + HOPELESS_PATIENCE_MS;
    if (facts.nowMs >= givenUpMs) return fail(job.reason, job.message);
    return { do: "wait", untilMs: Math.min(givenUpMs, trainingMs) };
  }
  const isOwnReason = NOT_RUNNABLE.has(job.reason);
  if (assignment.state.kind === "JobCreated" && (NOT_PLACED.has(job.reason) || isOwnReason)) {
    if (facts.nowMs < acceptMs) return { do: "wait", untilMs: acceptMs };
    if (isOwnReason) return fail(job.reason, job.message);
    return fail("NoCapacity", job.message || "the trainer's pod was not scheduled by the accept deadline");
  }
  return { do: "wait", untilMs: trainingMs };
}

function fail(reason: string, message: string): Step {
  return { do: "enter", state: { kind: "Failed", reason, message: sentence(message, "") } };
}

export interface TrainerReport {
  state: "Scheduling" | "Training" | "Trained" | "Sharing";
  reason: string;
  message: string;
  step: number;
  steps: number;
}

/** What the operator is told meanwhile; undefined: nothing (not begun, or over). A full volume is the reason of whatever waits for it. */
export function report(
  assignment: Assignment,
  { job, session, storage }: Pick<Facts, "job" | "session" | "storage">,
  progress: { step: number; steps: number },
): TrainerReport | undefined {
  const told = reportOf(assignment, job, progress, session);
  if (!storage) return told;
  if (told) return { ...told, ...storage };
  return assignment.state.kind === "Accepted" ? { ...progress, state: "Scheduling", ...storage } : undefined;
}

function reportOf(
  assignment: Assignment,
  job: JobObservation | undefined,
  progress: { step: number; steps: number },
  session: SessionFacts | undefined,
): TrainerReport | undefined {
  const all = { reason: "", message: "", ...progress };
  // A trainer tells its progress once a second, so the last step it told of need not be its last one.
  const done = { ...all, step: progress.steps };
  switch (assignment.state.kind) {
    case "JobCreated":
      return { ...all, state: "Scheduling", reason: job?.reason ?? "PodPending", message: job?.message ?? "" };
    case "Training":
      // A pod that has to start again is training all the same, for the round; the sentence says what happened.
      return {
        ...all,
        state: "Training",
        ...(job?.state === "Scheduling" ? { reason: job.reason, message: job.message } : {}),
      };
    case "Trained":
      return { ...done, state: "Trained" };
    case "Sealed":
      return { ...done, state: "Sharing" };
    case "Prepared":
      // Sharing begins when keys are known to the others: M1 is what it shares first.
      return { ...done, state: session?.state && session.state !== "ADVERTISED" ? "Sharing" : "Trained" };
    default:
      return undefined;
  }
}
