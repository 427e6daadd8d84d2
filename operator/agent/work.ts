/**
 * Carries one assignment from its record to its end: looks, asks assignment.ts what is next, does it, writes the ledger, again.
 * Holds: the ledger is written before the next effect (kept-record.ts); every effect may happen twice (deterministic names, content checked
 * by digest); a failed step is tried again until the deadline that assignment.ts watches.
 * Does not: decide (assignment.ts) or know Kubernetes and gRPC (jobs.ts, link.ts).
 */
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "pino";
import { effect } from "../fault-injection.ts";
import type { Write } from "../journal/journal.ts";
import { startDeadline } from "../kube/deadline.ts";
import type { Plan } from "../round/plan.ts";
import type { CoordinatorMessage } from "../secagg/messages.ts";
import type { PodTemplate } from "../trainer/job.ts";
import { type JobObservation, sentence } from "../trainer/observe-job.ts";
import type { Result } from "../trainer/task.ts";
import type { TaskServer } from "../trainer/task-server.ts";
import { Alarm } from "./alarm.ts";
import { decide, type Facts, type Step } from "./assignment.ts";
import { adapterLimitBytes, makeContribution } from "./contribution.ts";
import { JobWatch } from "./job-watch.ts";
import type { TrainerJobs } from "./jobs.ts";
import { KeptRecord } from "./kept-record.ts";
import type { Ledger } from "./ledger.ts";
import { ATTEMPT_ENDED, OperatorFault, type OperatorLink } from "./link.ts";
import type { AgentMetrics } from "./metrics.ts";
import { finalProblem, type Problem, pauseMs, problemOf, quoting } from "./problems.ts";
import { type Assignment, type AssignmentState, assignmentKey, hasEnded, isInTraining, SUPERSEDED } from "./record.ts";
import type { TrainingOf } from "./record-ledger.ts";
import { type SecureStep, SecureWork } from "./secagg/secure-work.ts";
import type { SecureParts } from "./secagg/session.ts";
import type { SessionEnd } from "./secagg/session-record.ts";
import { abortedRow } from "./secagg/session-rows.ts";
import { StatusReporter } from "./status-reporter.ts";
import { type AgentStorage, isDiskFull } from "./storage.ts";
import { beganIn, type Records, trainJob, trainTask } from "./train-task.ts";

export interface WorkDeps {
  ledger: Ledger;
  link: OperatorLink;
  jobs: TrainerJobs;
  tasks: TaskServer;
  taskUrl: string;
  /** `<dataDir>/work` */
  workDir: string;
  podTemplate: PodTemplate;
  shareTrainerErrors: boolean;
  /** The site's, for the privacy of its records. */
  recordBudget?: Records["budget"] | undefined;
  secure: SecureParts;
  storage: Pick<AgentStorage, "problem" | "noteFull">;
  metrics: AgentMetrics;
  log: Logger;
  now?: () => number;
  /** Pauses between tries of what failed for a reason that may pass. */
  backoffMs?: { least: number; most: number };
}

export class Work {
  readonly #deps: WorkDeps;
  readonly #plan: Plan;
  readonly #log: Logger;
  readonly #record: KeptRecord;
  readonly #reporter: StatusReporter;
  readonly #jobWatch: JobWatch;
  /** Of secure rounds. */
  readonly #secure: SecureWork | undefined;
  readonly #alarm = new Alarm();
  readonly #stop = new AbortController();
  /** Ends what is under way when the operator cancels, where the loop goes on, or the agent stops. */
  readonly #interrupt = new AbortController();
  #cancelled: Problem | undefined;
  #isAttemptOver = false;
  /** As last looked at. */
  #facts: Facts | undefined;
  #failures = 0;
  #lastProblem: Problem | undefined;

  constructor(assignment: Assignment, plan: Plan, deps: WorkDeps) {
    this.#plan = plan;
    this.#deps = deps;
    this.#log = deps.log.child({ federation: plan.federation, round: plan.roundName, job: assignment.job });
    const { ledger, metrics } = deps;
    this.#record = new KeptRecord(assignment, { ledger, metrics, log: this.#log, now: () => this.#now() });
    this.#reporter = new StatusReporter(deps.link, plan.training.steps);
    this.#jobWatch = new JobWatch(deps.jobs);
    if (assignment.privacy !== "secure") return;
    const parts = { ...deps.secure, sessions: ledger.sessions, link: deps.link, metrics };
    const session = { ...parts, log: this.#log, now: () => this.#now() };
    this.#secure = new SecureWork(plan, { folder: this.#folder, session, wake: () => this.wake() });
  }

  get assignment(): Assignment {
    return this.#record.current;
  }

  get key(): string {
    return assignmentKey(this.assignment);
  }

  /** Something may have changed: the Job, the clock, the connection. */
  wake(): void {
    this.#alarm.ring();
  }

  cancel(reason: string, message: string): void {
    // The operator's words: a person reads them in a terminal.
    const isName = /^[A-Z][A-Za-z0-9]{0,63}$/.test(reason);
    this.#cancelled ??= { reason: isName ? reason : "Cancelled", message: sentence(message, "") };
    this.#interrupt.abort();
    this.wake();
  }

  /** Told by the operator; written down with the loop's next step. */
  get cancelled(): Problem | undefined {
    return this.#cancelled;
  }

  /** What the operator asks in secure aggregation. Before the delta is there nobody may ask anything. */
  ask(message: CoordinatorMessage): void {
    if (this.assignment.state.kind === "Prepared") this.#secure?.ask(message);
    else
      this.#log.debug({ asked: message.$case, state: this.assignment.state.kind }, "step came too early or too late");
  }

  get session(): SessionEnd | undefined {
    return this.#secure?.end;
  }

  /** The volume is full, or is not any more. Told here: the loop itself may be waiting for room. */
  storageChanged(): void {
    const { problem: storage } = this.#deps.storage;
    const { storage: _, ...facts } = this.#facts ?? { nowMs: this.#now() };
    this.#reporter.tell(this.assignment, { ...facts, nowMs: this.#now(), ...(storage && { storage }) });
    this.wake();
  }

  /** After a new connection. */
  tellAgain(): void {
    this.#reporter.forget();
    this.wake();
  }

  /** Resolves when nothing is left to do, or after stop(). */
  async run(): Promise<void> {
    await this.#openTask();
    while (!this.#stop.signal.aborted) {
      try {
        const facts = await this.#observe();
        this.#facts = facts;
        this.#reporter.tell(this.assignment, facts);
        const step = decide(this.assignment, facts);
        if (step.do === "nothing") return;
        await this.#perform(step, facts);
        this.#failures = 0;
      } catch (error) {
        if (!this.#stop.signal.aborted) await this.#handle(error);
      }
    }
  }

  /**
   * A later attempt takes over: in one commit this record is Superseded, its session aborted with its secrets erased, and the successor begun.
   * Only after stop(), when run() has resolved: nothing else changes the session then, and nothing of it is said any more.
   * @param begin  what is written with it, given the record that is taken over
   * @returns false, with nothing written, when there is nothing to take over
   */
  async supersede(begin: (current: Assignment) => Write[]): Promise<boolean> {
    const end = { reason: SUPERSEDED, message: "a later attempt of the round has taken over", accused: [] };
    const aborted = abortedRow(end, this.#now());
    const writes = await this.#deps.ledger.sessions.supersedeWrites(this.assignment, aborted);
    if (!writes) return false;
    const { reason, message } = end;
    const isMoved = await this.#record.change(
      ({ token: _, ...current }) =>
        hasEnded(current)
          ? undefined
          : { ...current, state: { kind: "Cancelled", reason, message }, told: true, cleaned: true },
      (current) => [...writes, ...begin(current)],
    );
    if (isMoved) this.#secure?.ended(end);
    return isMoved;
  }

  stop(): void {
    this.#stop.abort();
    this.#interrupt.abort();
    this.wake();
  }

  async #observe(): Promise<Facts> {
    const nowMs = this.#now();
    const { problem: storage } = this.#deps.storage;
    const session = this.assignment.state.kind === "Prepared" ? await this.#secure?.facts(this.assignment) : undefined;
    return {
      nowMs,
      ...(await this.#jobWatch.look(this.assignment, nowMs)),
      ...(session ? { session } : {}),
      ...(storage ? { storage } : {}),
      ...(this.#cancelled ? { cancelled: this.#cancelled } : {}),
      ...(this.#isAttemptOver ? { attemptOver: true } : {}),
      ...(this.#lastProblem ? { problem: this.#lastProblem } : {}),
    };
  }

  async #perform(step: Exclude<Step, { do: "nothing" }>, facts: Facts): Promise<void> {
    switch (step.do) {
      case "wait":
        return this.#alarm.wait(this.#lookAgainMs(step.untilMs, facts) - this.#now());
      case "enter":
        return this.#enter(step.state, facts.job);
      case "start":
        return this.#start();
      case "seal":
        return this.#seal();
      case "upload":
        return this.#upload();
      case "prepare":
        return this.#prepare();
      case "advertise":
      case "answer":
      case "send":
      case "uploadMasked":
        return this.#share(step.do);
      case "finish":
        await Promise.all([step.clean ? this.#clean() : undefined, step.tell ? this.#tell() : undefined]);
        return;
    }
  }

  /** The trainer's last lines of stderr may quote data: to the site's own events, and further only where its policy says so. */
  async #enter(state: AssignmentState, job: JobObservation | undefined): Promise<void> {
    const before = this.assignment;
    const error = state.kind === "Failed" ? job?.trainerError : undefined;
    if (error && job) this.#deps.jobs.note(before.job, job.reason, error);
    const shared = error && state.kind === "Failed" && this.#deps.shareTrainerErrors ? quoting(state, error) : state;
    await this.#move(before, shared);
  }

  /** An end ends the session too, in one commit: what it may not say any more and its secrets are gone with it. */
  async #move(before: Assignment, state: AssignmentState): Promise<void> {
    const problem = state.kind === "Failed" || state.kind === "Cancelled" ? { accused: [], ...state } : undefined;
    const end = problem && { reason: problem.reason, message: problem.message, accused: problem.accused ?? [] };
    const unspent = end && isInTraining(before) ? this.#deps.ledger.records.release(this.#training) : [];
    const writes = end ? [...(this.#secure?.endWrites(end) ?? []), ...unspent] : undefined;
    const isMoved = await this.#record.replace(before, { ...before, state }, writes);
    if (isMoved && end) this.#secure?.ended(end);
    if (isMoved && !isInTraining(this.assignment)) this.#deps.metrics.trained(before.job);
  }

  get #training(): TrainingOf {
    const { federation, round } = this.assignment;
    return { federation, round, began: beganIn(this.assignment) };
  }

  async #start(): Promise<void> {
    const before = this.assignment;
    const { jobs, ledger, link, podTemplate, taskUrl, tasks } = this.#deps;
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    effect("file", "make the folder of an assignment");
    const { digest, byteLength } = this.#plan.parent;
    const file = this.#file("parent.safetensors");
    await this.#until(before.deadlines.acceptMs, (signal) =>
      link.fetchAdapter({ federation: before.federation, digest, byteLength, file, signal }),
    );
    await ledger.records.reserve(this.#training, this.#plan);
    // Anew, with what others have set aside meanwhile: of two that begin at once each has its own entry before it looks for the other's.
    await this.#openTask();
    await jobs.ensure({
      ...trainJob(before, this.#plan, this.#now()),
      template: podTemplate,
      task: { url: taskUrl, caPem: tasks.caPem, token: before.token ?? "" },
    });
    await this.#record.replace(before, { ...before, state: { kind: "JobCreated" } });
  }

  /** Called by the task API, before the trainer gets its answer. */
  async #delivered(result: Result): Promise<void> {
    const isTaken = await this.#record.change((current) => {
      return isInTraining(current) ? { ...current, result, state: { kind: "Trained" } } : undefined;
    });
    this.#deps.metrics.trained(this.assignment.job);
    this.wake();
    if (!isTaken && !this.assignment.result) throw new Error("the assignment has ended; its result is not wanted");
  }

  async #seal(): Promise<void> {
    const before = this.assignment;
    const sealed = await makeContribution(before, this.#plan, {
      parent: this.#file("parent.safetensors"),
      trained: this.#file("trained.safetensors"),
      delta: this.#file("delta.safetensors"),
      sealed: this.#file("sealed.bin"),
    });
    await this.#record.replace(before, { ...before, state: { kind: "Sealed", ...sealed } });
  }

  async #upload(): Promise<void> {
    const before = this.assignment;
    await this.#until(before.deadlines.aggregationMs, (signal) =>
      this.#deps.link.upload(before, { file: this.#file("sealed.bin"), signal }),
    );
    await this.#record.replace(before, { ...before, state: { kind: "Contributed" }, told: true });
  }

  async #prepare(): Promise<void> {
    const before = this.assignment;
    await this.#secure!.prepare(before);
    await this.#record.replace(before, { ...before, state: { kind: "Prepared" } });
  }

  async #share(step: SecureStep): Promise<void> {
    const before = this.assignment;
    await this.#until(before.deadlines.aggregationMs, (signal) => this.#secure!.perform(step, before, signal));
  }

  async #clean(): Promise<void> {
    const { token, job } = this.assignment;
    if (token) this.#deps.tasks.close(token);
    await this.#deps.jobs.remove(job);
    await rm(this.#folder, { recursive: true, force: true });
    effect("file", "remove the folder of an assignment");
    await this.#record.change(({ token: _, ...current }) => ({ ...current, cleaned: true }));
  }

  async #tell(): Promise<void> {
    const { state } = this.assignment;
    if (state.kind === "Failed") await this.#deps.link.fail(this.assignment, state);
    if (state.kind === "Refused") await this.#deps.link.refuse(this.assignment, state);
    await this.#record.change((current) => ({ ...current, told: true }));
  }

  async #handle(error: unknown): Promise<void> {
    const before = this.assignment;
    if (error instanceof OperatorFault && error.reason === ATTEMPT_ENDED) {
      this.#isAttemptOver = true;
      return;
    }
    const final = finalProblem(error);
    if (final && !hasEnded(before)) {
      const isKept = await this.#move(before, { kind: "Failed", ...final }).then(
        () => true,
        () => false,
      );
      if (isKept) return;
    }
    if (isDiskFull(error)) this.#deps.storage.noteFull();
    const problem = problemOf(error);
    // What was under way was interrupted: the next look says why. Anything else is waited for, so that a full disk is no busy loop.
    if (this.#cancelled && !problem && !hasEnded(before)) return;
    this.#failures++;
    this.#lastProblem = problem ?? this.#lastProblem;
    const fields = { err: error, state: before.state.kind, failures: this.#failures };
    this.#log.warn(fields, "assignment step failed, trying again");
    await this.#alarm.wait(pauseMs(this.#failures, this.#deps.backoffMs));
  }

  async #openTask(): Promise<void> {
    const { token, state, result, job } = this.assignment;
    if (!token || hasEnded(this.assignment)) return;
    const { ledger, metrics, recordBudget: budget } = this.#deps;
    const records = budget && { budget, spent: await ledger.records.spentBeside(this.#training) };
    this.#deps.tasks.open({
      token,
      task: trainTask(this.assignment, this.#plan, records),
      adapterFile: this.#file("parent.safetensors"),
      outputFile: this.#file("trained.safetensors"),
      maxAdapterBytes: adapterLimitBytes(this.#plan),
      ...(result && state.kind !== "Accepted" ? { delivered: result } : {}),
      onProgress: (progress) => {
        this.#reporter.progressed(progress);
        if (isInTraining(this.assignment)) metrics.training(job, progress);
        this.wake();
      },
      onResult: (delivered) => this.#delivered(delivered),
    });
  }

  #lookAgainMs(untilMs: number, facts: Facts): number {
    const lookMs = this.#jobWatch.lookAgainMs(this.assignment, facts);
    return Math.min(untilMs, this.#reporter.nextAtMs, lookMs);
  }

  /** An effect that takes long ends at a deadline, a cancellation or the agent's stop. */
  async #until(deadlineMs: number, effect: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const leftMs = Math.max(1, Math.min(deadlineMs - this.#now(), 2 ** 31 - 1));
    const deadline = startDeadline(leftMs, this.#interrupt.signal);
    try {
      await effect(deadline.signal);
    } finally {
      deadline.end();
    }
  }

  get #folder(): string {
    return join(this.#deps.workDir, this.assignment.job);
  }

  #file(name: string): string {
    return join(this.#folder, name);
  }

  #now(): number {
    return (this.#deps.now ?? Date.now)();
  }
}
