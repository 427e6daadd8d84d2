/**
 * The record of one assignment and the only way to change it.
 * Holds: changes go one after the other; what `current` says is on disk; a change that was decided on an older record does not happen.
 */
import type { Logger } from "pino";
import type { Ledger } from "./ledger.ts";
import type { AgentMetrics } from "./metrics.ts";
import { type Assignment, hasEnded } from "./record.ts";

export interface KeptRecordDeps {
  ledger: Pick<Ledger, "save">;
  metrics: AgentMetrics;
  log: Logger;
  now: () => number;
}

export class KeptRecord {
  readonly #deps: KeptRecordDeps;
  #current: Assignment;
  #changes: Promise<unknown> = Promise.resolve();

  constructor(assignment: Assignment, deps: KeptRecordDeps) {
    this.#current = assignment;
    this.#deps = deps;
  }

  get current(): Assignment {
    return this.#current;
  }

  /** Only if the record is still the one that this was decided on. */
  async replace(decidedOn: Assignment, next: Assignment): Promise<void> {
    await this.change((current) => (current === decidedOn ? next : undefined));
  }

  /** Resolves when the ledger has it. @returns false when there was nothing to change */
  change(next: (current: Assignment) => Assignment | undefined): Promise<boolean> {
    const changed = this.#changes.then(() => this.#change(next(this.#current)));
    this.#changes = changed.catch(() => undefined);
    return changed;
  }

  async #change(after: Assignment | undefined): Promise<boolean> {
    if (!after) return false;
    const before = this.#current;
    const moved = after.state !== before.state;
    const next = {
      ...after,
      ...(moved ? { stateSinceMs: this.#deps.now() } : {}),
      // The operator said it: it need not be told.
      ...(moved && after.state.kind === "Cancelled" ? { told: true } : {}),
    };
    await this.#deps.ledger.save(next);
    this.#current = next;
    if (!moved) return true;
    this.#deps.log.info(next.state, "assignment moved on");
    if (hasEnded(next) && !hasEnded(before)) this.#deps.metrics.ended(next.state.kind);
    return true;
  }
}
