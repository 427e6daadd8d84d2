/**
 * Many changes of one record, one row on disk: what is asked for while a commit is under way goes into the next one together.
 * Two hundred participants answer a step within a second, and the record that each answer changes has 100 kB. A change that comes alone is
 * written at once.
 * Holds: who awaits commit() knows that the record as it was then, or newer, and all that was to be written with it are on disk.
 *   A commit that fails fails everybody who waited for it.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { giveBack } from "../../journal/give-back.ts";
import type { Journal, Write } from "../../journal/journal.ts";

/** From one commit's begin to the next one's at least: a disk that syncs in 1 ms would else get the whole record for each of its answers. */
const PACE_MS = 10;

export class GroupCommit {
  readonly #journal: Pick<Journal, "commit">;
  readonly #rowOf: (uid: string) => Write | undefined;
  readonly #failed: (error: unknown) => void;
  #begunAt = Number.NEGATIVE_INFINITY;
  #changed = new Set<string>();
  #writes: Write[] = [];
  /** The commit that has not begun; those who come now are in it. */
  #next: Promise<void> | undefined;
  /** Settles with the commit under way, and never rejects. */
  #underWay: Promise<void> = Promise.resolve();

  /** @param rowOf  the record's newest state in bytes of their own, asked when the commit begins; undefined: it was forgotten meanwhile */
  constructor(
    journal: Pick<Journal, "commit">,
    rowOf: (uid: string) => Write | undefined,
    failed: (error: unknown) => void,
  ) {
    this.#journal = journal;
    this.#rowOf = rowOf;
    this.#failed = failed;
  }

  /** @param uid  of a record that has changed. @param writes  in the order of the calls, and before the records */
  commit(uid: string | undefined, writes: readonly Write[] = []): Promise<void> {
    if (uid !== undefined) this.#changed.add(uid);
    this.#writes.push(...writes);
    if (this.#next) return this.#next;
    const next = this.#after(this.#underWay);
    this.#next = next;
    this.#underWay = next.catch(() => undefined);
    return next;
  }

  async #after(underWay: Promise<void>): Promise<void> {
    await underWay;
    const waitMs = this.#begunAt + PACE_MS - performance.now();
    if (waitMs > 0) await sleep(waitMs);
    this.#begunAt = performance.now();
    const rows = [...this.#changed].flatMap((uid) => this.#rowOf(uid) ?? []);
    const writes = [...this.#writes, ...rows];
    this.#next = undefined;
    this.#changed = new Set();
    this.#writes = [];
    try {
      await this.#journal.commit(writes);
    } catch (error) {
      this.#failed(error);
      throw error;
    } finally {
      for (const row of rows) if ("put" in row) giveBack(row.put.value);
    }
  }
}
