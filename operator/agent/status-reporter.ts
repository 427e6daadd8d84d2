/**
 * What the operator is told while an assignment goes on: each change of state or reason at once, progress at most once a second (trainer.md;
 * the operator writes it more rarely still).
 */
import { type Facts, report, type TrainerReport } from "./assignment.ts";
import type { OperatorLink } from "./link.ts";
import type { Assignment } from "./record.ts";

const PROGRESS_MS = 1_000;

export class StatusReporter {
  readonly #link: Pick<OperatorLink, "status">;
  #progress: { step: number; steps: number };
  #told: { report: TrainerReport; atMs: number } | undefined;

  constructor(link: Pick<OperatorLink, "status">, steps: number) {
    this.#link = link;
    this.#progress = { step: 0, steps };
  }

  progressed(progress: { step: number; steps: number }): void {
    // Steps are the plan's: another number of the trainer's could follow from how many examples there are.
    const { steps } = this.#progress;
    this.#progress = { step: Math.min(progress.step, steps), steps };
  }

  /** After a new connection: the operator may have missed what it was told last. */
  forget(): void {
    this.#told = undefined;
  }

  tell(assignment: Assignment, facts: Pick<Facts, "job" | "session" | "storage" | "nowMs">): void {
    const { nowMs } = facts;
    const next = report(assignment, facts, this.#progress);
    if (!next) return;
    const told = this.#told?.report;
    const isSame = told?.state === next.state && told.reason === next.reason && told.message === next.message;
    if (isSame && told.step === next.step && told.steps === next.steps) return;
    if (isSame && nowMs < (this.#told?.atMs ?? 0) + PROGRESS_MS) return;
    this.#told = { report: next, atMs: nowMs };
    this.#link.status(assignment, next);
  }

  /** When there is more to tell; Infinity: when something happens. */
  get nextAtMs(): number {
    return this.#told && this.#told.report.step < this.#progress.step ? this.#told.atMs + PROGRESS_MS : Infinity;
  }
}
