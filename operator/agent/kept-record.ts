/**
 * The record of one assignment and the only way to change it.
 * Holds: changes go one after the other; what `current` says is on disk; a change that was decided on an older record does not happen.
 */
import type { Logger } from "pino";
import type { Write } from "../journal/journal.ts";
import type { Ledger } from "./ledger.ts";
import type { AgentMetrics } from "./metrics.ts";
import { type Assignment, hasEnded, SUPERSEDED } from "./record.ts";

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
  replace(decidedOn: Assignment, next: Assignment, more: readonly Write[] = []): Promise<boolean> {
    return this.change((current) => (current === decidedOn ? next : undefined), more);
  }

  /**
   * Resolves when the ledger has it.
   * @param more  committed with the change; a function is asked when it is this change's turn
   * @returns false when there was nothing to change
   */
  change(
    next: (current: Assignment) => Assignment | undefined,
    more: readonly Write[] | ((current: Assignment) => readonly Write[]) = [],
  ): Promise<boolean> {
    const changed = this.#changes.then(() => {
      const after = next(this.#current);
      return this.#change(
        after,
        after && typeof more === "function" ? more(this.#current) : (more as readonly Write[]),
      );
    });
    this.#changes = changed.catch(() => undefined);
    return changed;
  }

  async #change(after: Assignment | undefined, more: readonly Write[]): Promise<boolean> {
    if (!after) return false;
    const before = this.#current;
    const moved = after.state !== before.state;
    const next = {
      ...after,
      ...(moved ? { stateSinceMs: this.#deps.now() } : {}),
      // The operator said it: it need not be told.
      ...(moved && after.state.kind === "Cancelled" ? { told: true } : {}),
    };
    await this.#deps.ledger.save(next, more);
    this.#current = next;
    if (!moved) return true;
    this.#deps.log.info(next.state, "assignment moved on");
    const goesOn = next.state.kind === "Cancelled" && next.state.reason === SUPERSEDED;
    if (hasEnded(next) && !hasEnded(before) && !goesOn) this.#deps.metrics.ended(next.state.kind);
    return true;
  }
}
