/**
 * The records of all rounds: in memory for whoever asks, in the journal (space "rounds") for whoever comes after a crash.
 * Holds: a change is one pure function, applied at once and in order; who awaits update() knows it is on disk. Memory may be
 *   ahead of the disk only for as long as a commit takes, and a commit that fails ends the process.
 * Does not: decide (operator/round), nor do anything outside.
 */
import type { Journal, Write } from "../../journal/journal.ts";
import {
  decodeRecord,
  encodeRecord,
  isTerminal,
  newRecord,
  type RoundIdentity,
  type RoundRecord,
} from "../../round/record.ts";

const SPACE = "rounds";

export class RoundDesk {
  readonly #journal: Journal;
  /** A commit failed: what is in memory is not what is on disk, and only a restart can tell which. */
  readonly #broken: (error: unknown) => void;
  readonly #records = new Map<string, RoundRecord>();

  constructor(journal: Journal, broken: (error: unknown) => void) {
    this.#journal = journal;
    this.#broken = broken;
  }

  async load(): Promise<void> {
    for (const { key, value } of await this.#journal.entries(SPACE)) this.#records.set(key, decodeRecord(value));
  }

  all(): RoundRecord[] {
    return [...this.#records.values()];
  }

  open(): RoundRecord[] {
    return this.all().filter((record) => !isTerminal(record));
  }

  get(uid: string): RoundRecord | undefined {
    return this.#records.get(uid);
  }

  named(name: string): RoundRecord[] {
    return this.all().filter((record) => record.name === name);
  }

  numbered(federation: string, number: number): RoundRecord | undefined {
    return this.all().find((record) => record.federation === federation && record.number === number);
  }

  async begin(round: RoundIdentity, nowMs: number): Promise<RoundRecord> {
    const known = this.#records.get(round.uid);
    if (known) return known;
    return this.take(newRecord(round, nowMs));
  }

  /** A round that has run already begins with its end. */
  async take(record: RoundRecord): Promise<RoundRecord> {
    this.#records.set(record.uid, record);
    await this.#commit([put(record)]);
    return record;
  }

  /** @param more  written in the same commit; a function is asked when the change is made */
  async update(
    uid: string,
    change: (record: RoundRecord) => RoundRecord,
    more: Write[] | ((before: RoundRecord, after: RoundRecord) => Write[]) = [],
  ): Promise<RoundRecord> {
    const before = this.#require(uid);
    const after = change(before);
    const writes = typeof more === "function" ? more(before, after) : more;
    if (after === before && writes.length === 0) return before;
    this.#records.set(uid, after);
    await this.#commit([put(after), ...writes]);
    return after;
  }

  /** For what nobody decides on, such as a trainer's step: written with the next commit. */
  note(uid: string, change: (record: RoundRecord) => RoundRecord): void {
    this.#records.set(uid, change(this.#require(uid)));
  }

  /** The object is gone and with it the last reason to remember. @param more  written in the same commit */
  async forget(uid: string, more: Write[] = []): Promise<void> {
    this.#records.delete(uid);
    await this.#commit([{ remove: { space: SPACE, key: uid } }, ...more]);
  }

  #require(uid: string): RoundRecord {
    const record = this.#records.get(uid);
    if (!record) throw new Error(`no record of round ${uid}`);
    return record;
  }

  async #commit(writes: Write[]): Promise<void> {
    try {
      await this.#journal.commit(writes);
    } catch (error) {
      this.#broken(error);
      throw error;
    }
  }
}

function put(record: RoundRecord): Write {
  return { put: { space: SPACE, key: record.uid, value: encodeRecord(record) } };
}
