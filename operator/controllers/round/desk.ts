/**
 * The records of all rounds: open ones in memory for whoever asks, all of them in the journal for whoever comes after a crash: in space
 * "rounds", and, once nothing is left to do, in "ended-rounds", with a line for each in "ended-index".
 * Holds: a change is one pure function, applied at once and in order; who awaits update() knows it is on disk. Memory may be
 *   ahead of the disk only for as long as a commit takes, and a commit that fails ends the process. Memory does not grow with the
 *   participants of rounds that have ended: of each a line is kept.
 * Does not: decide (operator/round), nor do anything outside.
 */
import { z } from "zod";
import { ROUND_PHASES, type RoundPhase } from "../../api/federation-round.ts";
import type { Journal, Write } from "../../journal/journal.ts";
import {
  decodeRecord,
  encodeRecord,
  isTerminal,
  newRecord,
  type RoundIdentity,
  type RoundRecord,
} from "../../round/record.ts";
import { GroupCommit } from "./group-commit.ts";

const ROUNDS = "rounds";
const ENDED = "ended-rounds";
const ENDED_INDEX = "ended-index";

const endedSchema = z.strictObject({
  uid: z.string(),
  name: z.string(),
  federation: z.string(),
  number: z.int().min(1).optional(),
  phase: z.enum(ROUND_PHASES),
});
/** All that memory keeps of a round that was put away. */
type EndedRound = z.infer<typeof endedSchema>;

export class RoundDesk {
  readonly #journal: Journal;
  readonly #commits: GroupCommit;
  /** Open rounds, and ended ones that are not put away yet. */
  readonly #records = new Map<string, RoundRecord>();
  readonly #ended = new Map<string, EndedRound>();
  /** By federation and number: a report names its round so. */
  readonly #numbered = new Map<string, string>();
  /** Almost always one: a name that is used again before its first round is forgotten has two. */
  readonly #named = new Map<string, Set<string>>();

  /** @param broken  a commit failed: what is in memory is not what is on disk, and only a restart can tell which */
  constructor(journal: Journal, broken: (error: unknown) => void) {
    this.#journal = journal;
    this.#commits = new GroupCommit(journal, (uid) => this.#rowOf(uid), broken);
  }

  async load(): Promise<void> {
    for (const { value } of await this.#journal.entries(ENDED_INDEX)) {
      const ended = endedSchema.parse(JSON.parse(Buffer.from(value).toString("utf8")));
      this.#ended.set(ended.uid, ended);
      this.#index(ended);
    }
    for (const { value } of await this.#journal.entries(ROUNDS)) this.#set(decodeRecord(value));
  }

  open(): RoundRecord[] {
    return [...this.#records.values()].filter((record) => !isTerminal(record));
  }

  /** Of all rounds that are remembered, ended or not. */
  names(): string[] {
    return [...this.#named.keys()];
  }

  federations(): Set<string> {
    return new Set([...this.#records.values(), ...this.#ended.values()].map(({ federation }) => federation));
  }

  /** undefined also of a round that was put away: phase() knows it, read() brings it. */
  get(uid: string): RoundRecord | undefined {
    return this.#records.get(uid);
  }

  phase(uid: string): RoundPhase | undefined {
    return (this.#records.get(uid) ?? this.#ended.get(uid))?.phase;
  }

  isPutAway(uid: string): boolean {
    return this.#ended.has(uid) && !this.#records.has(uid);
  }

  uidsNamed(name: string): string[] {
    return [...(this.#named.get(name) ?? [])];
  }

  /** From memory or from disk. */
  async read(uid: string): Promise<RoundRecord | undefined> {
    const known = this.#records.get(uid);
    if (known || !this.#ended.has(uid)) return known;
    const bytes = await this.#journal.get(ENDED, uid);
    return this.#records.get(uid) ?? (bytes && decodeRecord(bytes));
  }

  async numbered(federation: string, number: number): Promise<RoundRecord | undefined> {
    const uid = this.#numbered.get(`${federation}/${number}`);
    return uid === undefined ? undefined : this.read(uid);
  }

  async begin(round: RoundIdentity, nowMs: number): Promise<RoundRecord> {
    return (await this.read(round.uid)) ?? this.take(newRecord(round, nowMs));
  }

  /** A round that has run already begins with its end. */
  async take(record: RoundRecord): Promise<RoundRecord> {
    this.#set(record);
    await this.#commits.commit(record.uid);
    return record;
  }

  /** @param more  written in the same commit; a function is asked when the change is made */
  async update(
    uid: string,
    change: (record: RoundRecord) => RoundRecord,
    more: Write[] | ((before: RoundRecord, after: RoundRecord) => Write[]) = [],
  ): Promise<RoundRecord> {
    const before = this.#records.get(uid) ?? (await this.#bringBack(uid));
    const after = change(before);
    const writes = typeof more === "function" ? more(before, after) : more;
    if (after === before && writes.length === 0) return before;
    this.#set(after);
    await this.#commits.commit(uid, writes);
    return after;
  }

  /** For what nobody decides on, such as a trainer's step: written with the next commit. */
  note(uid: string, change: (record: RoundRecord) => RoundRecord): void {
    const record = this.#records.get(uid);
    if (record) this.#set(change(record));
  }

  /** Of this ended round nothing is left to do: from now on its record is on disk only. */
  async putAway(uid: string): Promise<void> {
    const record = this.#records.get(uid);
    if (!record || !isTerminal(record)) return;
    const ended = lineOf(record);
    await this.#commits.commit(undefined, [
      { remove: { space: ROUNDS, key: uid } },
      { put: { space: ENDED, key: uid, value: encodeRecord(record) } },
      { put: { space: ENDED_INDEX, key: uid, value: Buffer.from(JSON.stringify(ended)) } },
    ]);
    // Changed meanwhile: that is in "rounds" again, and the next look puts it away.
    if (this.#records.get(uid) !== record) return;
    this.#records.delete(uid);
    this.#ended.set(uid, ended);
  }

  /** The object is gone and with it the last reason to remember. @param more  written in the same commit */
  async forget(uid: string, more: Write[] = []): Promise<void> {
    const known = this.#records.get(uid) ?? this.#ended.get(uid);
    this.#records.delete(uid);
    this.#ended.delete(uid);
    if (known) this.#unindex(known);
    const removals = [ROUNDS, ENDED, ENDED_INDEX].map((space): Write => ({ remove: { space, key: uid } }));
    await this.#commits.commit(undefined, [...removals, ...more]);
  }

  async #bringBack(uid: string): Promise<RoundRecord> {
    const read = await this.read(uid);
    if (!read) throw new Error(`no record of round ${uid}`);
    const record = this.#records.get(uid) ?? read;
    this.#records.set(uid, record);
    return record;
  }

  #set(record: RoundRecord): void {
    const before = this.#records.get(record.uid);
    this.#records.set(record.uid, record);
    if (!before || before.number !== record.number) this.#index(record);
  }

  #index({ uid, name, federation, number }: EndedRound): void {
    const named = this.#named.get(name) ?? new Set();
    this.#named.set(name, named.add(uid));
    if (number !== undefined) this.#numbered.set(`${federation}/${number}`, uid);
  }

  #unindex({ uid, name, federation, number }: EndedRound): void {
    const named = this.#named.get(name);
    named?.delete(uid);
    if (named?.size === 0) this.#named.delete(name);
    const key = `${federation}/${number}`;
    if (this.#numbered.get(key) === uid) this.#numbered.delete(key);
  }

  #rowOf(uid: string): Write | undefined {
    const record = this.#records.get(uid);
    return record && { put: { space: ROUNDS, key: uid, value: encodeRecord(record) } };
  }
}

function lineOf({ uid, name, federation, number, phase }: RoundRecord): EndedRound {
  return { uid, name, federation, ...(number !== undefined && { number }), phase };
}
