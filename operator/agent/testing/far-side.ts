/** The cluster and the operator as an assignment sees them, in memory: what was asked of them, and what they answer. */
import { copyFile, readFile } from "node:fs/promises";
import type { JobObservation } from "../../trainer/observe-job.ts";
import type { TrainerReport } from "../assignment.ts";
import type { EnsureJob, TrainerJobs } from "../jobs.ts";
import type { AdapterRequest, NamedWork, OperatorLink } from "../link.ts";
import type { Assignment } from "../record.ts";

export class MemoryJobs implements TrainerJobs {
  readonly jobs = new Map<string, { options: EnsureJob; seen: JobObservation }>();
  readonly notes: string[] = [];
  created = 0;
  /** What the cluster makes of a new Job. */
  fresh: JobObservation = { state: "Running", reason: "Running", message: "" };
  onCreated: (options: EnsureJob) => void = () => {};

  async ensure(options: EnsureJob): Promise<void> {
    if (this.jobs.has(options.name)) return;
    this.created++;
    this.jobs.set(options.name, { options, seen: this.fresh });
    this.onCreated(options);
  }

  async look(name: string): Promise<JobObservation> {
    return this.jobs.get(name)?.seen ?? { state: "Missing", reason: "JobMissing", message: "gone" };
  }

  async remove(name: string): Promise<void> {
    this.jobs.delete(name);
  }

  note(_name: string, reason: string, text: string): void {
    this.notes.push(`${reason}: ${text}`);
  }
}

export class MemoryOperator implements OperatorLink {
  readonly adapters = new Map<string, string>();
  readonly statuses: TrainerReport[] = [];
  readonly said: Array<{ kind: "accept" | "refuse" | "fail"; reason?: string; message?: string }> = [];
  /** Every complete upload, whole. */
  readonly uploads: Buffer[] = [];

  async accept(): Promise<void> {
    this.said.push({ kind: "accept" });
  }

  async refuse(_: NamedWork, refusal: { reason: string; message: string }): Promise<void> {
    this.said.push({ kind: "refuse", reason: refusal.reason, message: refusal.message });
  }

  async fail(_: Assignment, failure: { reason: string; message: string }): Promise<void> {
    this.said.push({ kind: "fail", reason: failure.reason, message: failure.message });
  }

  status(_: Assignment, report: TrainerReport): void {
    this.statuses.push(report);
  }

  async fetchAdapter({ digest, file }: AdapterRequest): Promise<void> {
    const source = this.adapters.get(digest);
    if (!source)
      throw Object.assign(new Error("the operator has no such adapter"), {
        name: "TransportFault",
        code: "DigestUnknown",
      });
    await copyFile(source, file);
  }

  async upload(_: Assignment, file: string): Promise<void> {
    this.uploads.push(await readFile(file));
  }
}
