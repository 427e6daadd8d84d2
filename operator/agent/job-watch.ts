/**
 * What one assignment's Job is doing, look by look: since when it is hopeless, and which of its failed tries the site's people have read about.
 * Jobs and pods are watched (jobs.ts), so that a look costs nothing; while a pod does not run, reasons come as events, which nobody watches.
 * Does not: decide what follows (assignment.ts).
 */
import type { JobObservation } from "../trainer/observe-job.ts";
import type { Facts } from "./assignment.ts";
import type { TrainerJobs } from "./jobs.ts";
import type { Assignment } from "./record.ts";

/** Often at first, when quotas and volumes speak up, then rarely. */
const FRESH_MS = 60_000;
const FRESH_LOOK_MS = 3_000;
const LOOK_MS = 15_000;

export class JobWatch {
  readonly #jobs: Pick<TrainerJobs, "look" | "note">;
  #hopelessSinceMs: number | undefined;
  #noted: string | undefined;

  constructor(jobs: Pick<TrainerJobs, "look" | "note">) {
    this.#jobs = jobs;
  }

  /** Nothing of an assignment whose Job does not matter (yet, or any more). */
  async look({ job: name, state }: Assignment, nowMs: number): Promise<Pick<Facts, "job" | "hopelessSinceMs">> {
    if (state.kind !== "JobCreated" && state.kind !== "Training") return {};
    const job = await this.#jobs.look(name);
    this.#noteTry(name, job);
    this.#hopelessSinceMs = job.hopeless ? (this.#hopelessSinceMs ?? nowMs) : undefined;
    return { job, ...(this.#hopelessSinceMs !== undefined ? { hopelessSinceMs: this.#hopelessSinceMs } : {}) };
  }

  lookAgainMs({ stateSinceMs }: Assignment, { job, nowMs }: Facts): number {
    const mayHaveEvents = job?.state === "Scheduling" && nowMs - stateSinceMs < FRESH_MS;
    return nowMs + (mayHaveEvents ? FRESH_LOOK_MS : LOOK_MS);
  }

  /** A try that failed while the Job has another one: its people hear of it now, for the next one may end otherwise. */
  #noteTry(name: string, job: JobObservation): void {
    if (job.state !== "Scheduling" || !job.trainerError || job.trainerError === this.#noted) return;
    this.#noted = job.trainerError;
    this.#jobs.note(name, job.reason, job.trainerError);
  }
}
