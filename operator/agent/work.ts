/**
 * Carries one assignment from its record to its end: looks, asks assignment.ts what is next, does it, writes the ledger, again.
 * Holds: the ledger is written before the next effect; changes of the record go one after the other, and one that was decided on an older
 * record is thrown away and decided again; every effect may happen twice (deterministic names, content checked by digest).
 * Does not: decide (assignment.ts) or know Kubernetes and gRPC (jobs.ts, link.ts).
 */
import { mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "pino";
import { leavesOfFile, merkleRoot } from "../journal/merkle.ts";
import type { Plan } from "../round/plan.ts";
import type { PodTemplate } from "../trainer/job.ts";
import type { JobObservation } from "../trainer/observe-job.ts";
import type { Result } from "../trainer/task.ts";
import { syncDirectory } from "../trainer/task-body.ts";
import type { TaskServer, TaskWork } from "../trainer/task-server.ts";
import { sealFile } from "../transport/sealing.ts";
import { decide, type Facts, report, type Step, type TrainerReport } from "./assignment.ts";
import { AdapterFault, makeDelta } from "./delta.ts";
import { JobFault, type TrainerJobs } from "./jobs.ts";
import type { Ledger } from "./ledger.ts";
import { type OperatorLink, UploadRefused } from "./link.ts";
import type { AgentMetrics } from "./metrics.ts";
import { type Assignment, assignmentKey, hasEnded } from "./record.ts";
import { trainTask } from "./train-task.ts";

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
  metrics: AgentMetrics;
  log: Logger;
  now?: () => number;
  /** Pauses between tries of what failed for a reason that may pass. */
  backoffMs?: { least: number; most: number };
}

/** Progress is told at most once a second (trainer.md); the operator writes it more rarely still. */
const PROGRESS_MS = 1_000;
/** While a pod does not run, reasons come as events, which nobody watches. */
const SCHEDULING_LOOK_MS = 3_000;
const LOOK_MS = 30_000;
/** Headers and PEFT's own metadata, beside the values at 4 bytes each. */
const ADAPTER_SLACK_BYTES = 1 << 20;

export class Work {
  readonly #deps: WorkDeps;
  readonly #plan: Plan;
  readonly #log: Logger;
  readonly #stop = new AbortController();
  /** Ends what is under way when the operator cancels; the loop goes on. */
  readonly #cancel = new AbortController();
  #assignment: Assignment;
  #changes: Promise<unknown> = Promise.resolve();
  #cancelled: { reason: string; message: string } | undefined;
  #wake: () => void = () => {};
  #isWoken = false;
  #progress = { step: 0, steps: 0 };
  #told: { report: TrainerReport; atMs: number } | undefined;
  #hopelessSinceMs: number | undefined;
  #failures = 0;
  #lastProblem: { reason: string; message: string } | undefined;

  constructor(assignment: Assignment, plan: Plan, deps: WorkDeps) {
    this.#assignment = assignment;
    this.#plan = plan;
    this.#deps = deps;
    this.#progress.steps = plan.training.steps;
    this.#log = deps.log.child({ federation: plan.federation, round: plan.roundName, job: assignment.job });
  }

  get assignment(): Assignment {
    return this.#assignment;
  }

  get key(): string {
    return assignmentKey(this.#assignment);
  }

  /** Something may have changed: the Job, the clock, the connection. */
  wake(): void {
    this.#isWoken = true;
    this.#wake();
  }

  cancel(reason: string, message: string): void {
    this.#cancelled ??= { reason, message };
    this.#cancel.abort();
    this.wake();
  }

  /** After a new connection: the operator may have missed what it was told last. */
  tellAgain(): void {
    this.#told = undefined;
    this.wake();
  }

  /** Resolves when nothing is left to do, or after stop(). */
  async run(): Promise<void> {
    this.#openTask();
    while (!this.#stop.signal.aborted) {
      try {
        const facts = await this.#observe();
        this.#tellStatus(facts);
        const step = decide(this.#assignment, facts);
        if (step.do === "nothing") return;
        await this.#perform(step, facts);
        this.#failures = 0;
      } catch (error) {
        await this.#handle(error);
      }
    }
  }

  stop(): void {
    this.#stop.abort();
    this.wake();
  }

  async #observe(): Promise<Facts> {
    const nowMs = this.#now();
    const { kind } = this.#assignment.state;
    const looks = kind === "JobCreated" || kind === "Training";
    const job = looks ? await this.#deps.jobs.look(this.#assignment.job) : undefined;
    if (!job?.hopeless) this.#hopelessSinceMs = undefined;
    else this.#hopelessSinceMs ??= nowMs;
    return {
      nowMs,
      ...(job ? { job } : {}),
      ...(this.#hopelessSinceMs !== undefined ? { hopelessSinceMs: this.#hopelessSinceMs } : {}),
      ...(this.#cancelled ? { cancelled: this.#cancelled } : {}),
      ...(this.#lastProblem ? { problem: this.#lastProblem } : {}),
    };
  }

  async #perform(step: Exclude<Step, { do: "nothing" }>, facts: Facts): Promise<void> {
    switch (step.do) {
      case "wait":
        return this.#wait(this.#lookAgainMs(step.untilMs, facts));
      case "enter": {
        if (step.state.kind === "Failed") this.#noteTrainerError(facts.job);
        const shared = step.state.kind === "Failed" ? this.#withTrainerError(step.state, facts.job) : step.state;
        await this.#enter(this.#assignment, { ...this.#assignment, state: shared });
        return;
      }
      case "start":
        return this.#start();
      case "seal":
        return this.#seal();
      case "upload":
        return this.#upload();
      case "finish":
        await Promise.all([step.clean ? this.#clean() : undefined, step.tell ? this.#tell() : undefined]);
        return;
    }
  }

  // ---- the steps -------------------------------------------------------------------------------------------------------------------------

  async #start(): Promise<void> {
    const before = this.#assignment;
    const { jobs, link, now, podTemplate, taskUrl, tasks } = this.#deps;
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    await link.fetchAdapter({
      federation: before.federation,
      digest: this.#plan.parent.digest,
      byteLength: this.#plan.parent.byteLength,
      file: this.#file("parent.safetensors"),
      signal: this.#interrupt(before.deadlines.acceptMs),
    });
    this.#openTask();
    await jobs.ensure({
      name: before.job,
      template: podTemplate,
      image: this.#plan.training.image,
      resources: this.#plan.training.resources,
      task: { url: taskUrl, caPem: tasks.caPem, token: before.token ?? "" },
      labels: {
        federation: before.federation,
        round: before.roundName,
        participant: before.participant,
        attempt: before.attempt,
        kind: "train",
      },
      activeDeadlineSeconds: (before.deadlines.trainingMs - (now ?? Date.now)()) / 1000,
    });
    await this.#enter(before, { ...before, state: { kind: "JobCreated" } });
  }

  /** Called by the task API, before the trainer gets its answer. */
  async #delivered(result: Result): Promise<void> {
    const done = await this.#change((current) => {
      const { kind } = current.state;
      if (kind !== "JobCreated" && kind !== "Training" && kind !== "Accepted") return undefined;
      return { ...current, result, state: { kind: "Trained" } };
    });
    this.wake();
    if (!done && !this.#assignment.result)
      throw new Error("the assignment has ended; the result is not wanted any more");
  }

  async #seal(): Promise<void> {
    const before = this.#assignment;
    const delta = this.#file("delta.safetensors");
    const sealed = this.#file("sealed.bin");
    await makeDelta({
      plan: this.#plan,
      parentFile: this.#file("parent.safetensors"),
      trainedFile: this.#file("trained.safetensors"),
      deltaFile: delta,
      examples: before.result?.examples ?? 0,
    });
    await rm(`${sealed}.part`, { force: true });
    await sealFile(delta, `${sealed}.part`, {
      publicKey: Buffer.from(this.#plan.sealing.publicKey, "base64"),
      planHash: Buffer.from(before.planHash, "hex"),
      participant: before.participant,
    });
    await rename(`${sealed}.part`, sealed);
    await syncDirectory(this.#folder);
    const { leaves, byteLength } = await leavesOfFile(sealed);
    const root = Buffer.from(merkleRoot(leaves)).toString("hex");
    await this.#enter(before, { ...before, state: { kind: "Sealed", byteLength, root } });
    await rm(delta, { force: true });
  }

  async #upload(): Promise<void> {
    const before = this.#assignment;
    await this.#deps.link.upload(before, this.#file("sealed.bin"), this.#interrupt(before.deadlines.aggregationMs));
    await this.#enter(before, { ...before, state: { kind: "Contributed" }, told: true });
  }

  async #clean(): Promise<void> {
    const { token, job } = this.#assignment;
    if (token) this.#deps.tasks.close(token);
    await this.#deps.jobs.remove(job);
    await rm(this.#folder, { recursive: true, force: true });
    await this.#change(({ token: _, ...current }) => ({ ...current, cleaned: true }));
  }

  async #tell(): Promise<void> {
    const { state } = this.#assignment;
    const { link } = this.#deps;
    if (state.kind === "Failed") await link.fail(this.#assignment, state);
    if (state.kind === "Refused") await link.refuse(this.#assignment, state);
    await this.#change((current) => ({ ...current, told: true }));
  }

  // ---- the record ------------------------------------------------------------------------------------------------------------------------

  /** Only if the record is still the one that this was decided on. */
  async #enter(decidedOn: Assignment, next: Assignment): Promise<void> {
    await this.#change((current) => (current === decidedOn ? next : undefined));
  }

  /** One after the other; resolves when the ledger has it. @returns false when there was nothing to change */
  #change(next: (current: Assignment) => Assignment | undefined): Promise<boolean> {
    const changed = this.#changes.then(async () => {
      const after = next(this.#assignment);
      if (!after) return false;
      const stamped = after.state === this.#assignment.state ? after : { ...after, stateSinceMs: this.#now() };
      const ended = hasEnded(stamped) && !hasEnded(this.#assignment);
      const final = ended && stamped.state.kind === "Cancelled" ? { ...stamped, told: true } : stamped;
      await this.#deps.ledger.save(final);
      const moved = final.state.kind !== this.#assignment.state.kind;
      this.#assignment = final;
      if (moved) this.#log.info({ state: final.state.kind, ...reasonOf(final) }, "assignment moved on");
      if (ended) this.#deps.metrics.ended(final.state.kind);
      return true;
    });
    this.#changes = changed.catch(() => undefined);
    return changed;
  }

  // ---- failures --------------------------------------------------------------------------------------------------------------------------

  async #handle(error: unknown): Promise<void> {
    if (this.#stop.signal.aborted) return;
    const before = this.#assignment;
    const final = finalFault(error);
    if (final && !hasEnded(before)) {
      await this.#enter(before, { ...before, state: { kind: "Failed", ...final } }).catch((again: unknown) =>
        this.#log.error({ err: again }, "ledger not written"),
      );
      return;
    }
    // Cancelled or past a deadline: the next look says so.
    if (this.#cancelled && !hasEnded(before)) return;
    this.#failures++;
    this.#lastProblem = problemOf(error) ?? this.#lastProblem;
    this.#log.warn(
      { err: error, state: before.state.kind, failures: this.#failures },
      "assignment step failed, trying again",
    );
    const { least, most } = this.#deps.backoffMs ?? { least: 500, most: 15_000 };
    // Math.random: jitter only.
    const pauseMs = Math.min(most, least * 2 ** Math.min(10, this.#failures - 1)) * (0.5 + Math.random() / 2);
    await this.#wait(this.#now() + pauseMs, { wakes: "stopped or cancelled" });
  }

  /** The last lines of stderr may quote data: to the site's own events, and further only where its policy says so. */
  #noteTrainerError(job: JobObservation | undefined): void {
    if (job?.trainerError) this.#deps.jobs.note(this.#assignment.job, job.reason, job.trainerError);
  }

  #withTrainerError<S extends { kind: "Failed"; reason: string; message: string }>(
    state: S,
    job: JobObservation | undefined,
  ): S {
    if (!this.#deps.shareTrainerErrors || !job?.trainerError) return state;
    const tail = job.trainerError.replace(/\s+/g, " ").trim().slice(-160);
    return { ...state, message: `${state.message.slice(0, 90)}: ${tail}` };
  }

  // ---- the rest --------------------------------------------------------------------------------------------------------------------------

  #openTask(): void {
    const { token, state, result } = this.#assignment;
    if (!token || hasEnded(this.#assignment)) return;
    const task: TaskWork = {
      token,
      task: trainTask(this.#assignment, this.#plan),
      adapterFile: this.#file("parent.safetensors"),
      outputFile: this.#file("trained.safetensors"),
      maxAdapterBytes: adapterLimitBytes(this.#plan),
      ...(result && state.kind !== "Accepted" ? { delivered: result } : {}),
      onProgress: ({ step, steps }) => {
        this.#progress = { step: Math.min(step, steps), steps };
        this.wake();
      },
      onResult: (delivered) => this.#delivered(delivered),
    };
    this.#deps.tasks.open(task);
  }

  #tellStatus(facts: Facts): void {
    const next = report(this.#assignment, facts.job, this.#progress);
    if (!next) return;
    const told = this.#told?.report;
    const isSame = told?.state === next.state && told.reason === next.reason && told.message === next.message;
    if (isSame && told.step === next.step && told.steps === next.steps) return;
    if (isSame && facts.nowMs < (this.#told?.atMs ?? 0) + PROGRESS_MS) return;
    this.#told = { report: next, atMs: facts.nowMs };
    this.#deps.link.status(this.#assignment, next);
  }

  #lookAgainMs(untilMs: number, facts: Facts): number {
    const pending =
      this.#told && this.#told.report.step !== this.#progress.step ? this.#told.atMs + PROGRESS_MS : Infinity;
    const look = facts.nowMs + (facts.job?.state === "Scheduling" ? SCHEDULING_LOOK_MS : LOOK_MS);
    return Math.min(untilMs, pending, look);
  }

  async #wait(untilMs: number, options?: { wakes: "stopped or cancelled" }): Promise<void> {
    if (this.#isWoken && !options) {
      this.#isWoken = false;
      return;
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, Math.max(1, untilMs - this.#now()));
    this.#wake = () => {
      if (!options || this.#stop.signal.aborted || this.#cancelled) resolve();
    };
    await promise;
    clearTimeout(timer);
    this.#wake = () => {};
    this.#isWoken = false;
  }

  /** Ends an effect that takes long: at a deadline, a cancellation or the agent's stop. */
  #interrupt(deadlineMs: number): AbortSignal {
    const leftMs = Math.max(1, Math.min(deadlineMs - this.#now(), 2 ** 31 - 1));
    return AbortSignal.any([this.#stop.signal, this.#cancel.signal, AbortSignal.timeout(leftMs)]);
  }

  get #folder(): string {
    return join(this.#deps.workDir, this.#assignment.job);
  }

  #file(name: string): string {
    return join(this.#folder, name);
  }

  #now(): number {
    return (this.#deps.now ?? Date.now)();
  }
}

/** F32 is the largest form a trainer may use. */
function adapterLimitBytes(plan: Plan): number {
  const values = plan.tensors.reduce((sum, { shape }) => sum + shape[0]! * shape[1]!, 0);
  return 4 * values + plan.tensors.length * 1024 + ADAPTER_SLACK_BYTES;
}

function finalFault(error: unknown): { reason: string; message: string } | undefined {
  if (error instanceof AdapterFault || error instanceof JobFault || error instanceof UploadRefused) {
    return { reason: error.reason, message: error.message };
  }
  return undefined;
}

/** Only our own faults have sentences for a person; an interruption says nothing about why. */
function problemOf(error: unknown): { reason: string; message: string } | undefined {
  const { code, name, message } = error as { code?: unknown; name?: string; message?: string };
  if (name === "AbortError" || name === "TimeoutError") return undefined;
  if (typeof code === "string" && name?.endsWith("Fault")) return { reason: code, message: message ?? "" };
  return { reason: "AgentProblem", message: "the agent could not go on; its log at the site says why" };
}

function reasonOf({ state }: Assignment): { reason?: string; message?: string } {
  return "reason" in state ? { reason: state.reason, message: state.message } : {};
}
