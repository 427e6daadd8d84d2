/**
 * What the operator is told while an assignment goes on: each change of state or reason at once, progress at most once a second (trainer.md;
 * the operator writes it more rarely still).
 */
import { type Facts, report, type TrainerReport } from "./assignment.ts";
import type { OperatorLink } from "./link.ts";
import type { Assignment } from "./record.ts";

const PROGRESS_MS = 1_000;
const PER_CENT = 100;

export class StatusReporter {
  readonly #link: Pick<OperatorLink, "status">;
  readonly #isShare: boolean;
  #progress: { step: number; steps: number };
  #told: { report: TrainerReport; atMs: number } | undefined;

  /** @param steps  the plan's; undefined where it wants epochs: how many steps these are tells how many records the site has. */
  constructor(link: Pick<OperatorLink, "status">, steps: number | undefined) {
    this.#link = link;
    this.#progress = { step: 0, steps: steps ?? PER_CENT };
    this.#isShare = steps === undefined;
  }

  progressed({ step, steps: ofTrainer }: { step: number; steps: number }): void {
    const { steps } = this.#progress;
    const done = this.#isShare ? Math.floor((PER_CENT * step) / Math.max(1, ofTrainer)) : step;
    this.#progress = { step: Math.min(done, steps), steps };
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
