/**
 * What a federation's rounds have come to: all there ever were, not those whose objects still exist. Journal space "tally", key: name of
 * the Federation.
 * Holds: a round is counted in the very commit that ends its record, so never twice and never not; a row belongs to one Federation object,
 *   and one that is created anew under its name begins at nothing.
 * Does not: decide whether a next round begins (federation/next-round.ts).
 */
import { z } from "zod";
import type { Federation } from "../api/federation.ts";
import type { Journal, Write } from "../journal/journal.ts";
import { isTerminal, type RoundRecord } from "../round/record.ts";
import { type Objects, there } from "./objects.ts";
import { creatorOf } from "./round-index.ts";

const SPACE = "tally";
/** How many rounds a Federation (by uid) had created, as releases before this row wrote it. */
const CREATED_BEFORE = "created-rounds";

const count = z.int().min(0);

const rowSchema = z.strictObject({
  schema: z.literal(1),
  uid: z.string(),
  succeeded: count,
  failed: count,
  cancelled: count,
  /** Since the last success or the last change of the Federation's spec, whichever was later; cancelled rounds say nothing. */
  failuresInRow: count,
  generationOfRow: count,
  lastFailure: z.strictObject({ round: z.string(), reason: z.string(), message: z.string() }).optional(),
  lastEndedMs: count.optional(),
  /** Of the last round that published one. */
  lastTrainLoss: z.number().optional(),
  /** Rounds that the federation itself created. */
  created: count,
  /** In the name of the last of them, or of a round made by hand that has the name of the next. */
  lastNumber: count,
  /** On disk before the object is created, so that one that a crash left behind is known as the federation's own. */
  creating: z.string().optional(),
});
/** Treated as immutable. */
export type TallyRow = Readonly<z.infer<typeof rowSchema>>;

export class Tally {
  readonly #journal: Journal;
  readonly #objects: Pick<Objects, "federation" | "roundsOf">;
  readonly #rows = new Map<string, TallyRow>();
  readonly #createdBefore = new Map<string, number>();

  constructor(journal: Journal, objects: Pick<Objects, "federation" | "roundsOf">) {
    this.#journal = journal;
    this.#objects = objects;
  }

  async load(): Promise<void> {
    for (const { key, value } of await this.#journal.entries(SPACE)) this.#rows.set(key, rowSchema.parse(json(value)));
    for (const { key, value } of await this.#journal.entries(CREATED_BEFORE))
      this.#createdBefore.set(key, z.int().parse(json(value)));
  }

  of(federation: Federation): TallyRow {
    const row = this.#rows.get(federation.metadata.name);
    return row?.uid === federation.metadata.uid ? row : this.#begin(federation);
  }

  /** For the same commit as the record's change; nothing unless this change ends it. */
  writes(before: RoundRecord, after: RoundRecord): Write[] {
    if (isTerminal(before) || !isTerminal(after)) return [];
    const federation = there(this.#objects.federation(after.federation));
    return federation ? [this.#set(after.federation, counted(this.of(federation), after, federation))] : [];
  }

  /** Durable when it resolves. */
  async change(federation: Federation, fields: Partial<Omit<TallyRow, "creating">>, creating?: string): Promise<void> {
    const { creating: _done, ...row } = this.of(federation);
    const next = { ...row, ...fields, ...(creating !== undefined && { creating }) };
    await this.#journal.commit([this.#set(federation.metadata.name, next)]);
  }

  /** The Federation is gone: whoever takes its name begins anew. */
  async forget(federation: string): Promise<void> {
    const row = this.#rows.get(federation);
    if (!row) return;
    this.#rows.delete(federation);
    await this.#journal.commit([
      { remove: { space: SPACE, key: federation } },
      { remove: { space: CREATED_BEFORE, key: row.uid } },
    ]);
  }

  federations(): string[] {
    return [...this.#rows.keys()];
  }

  /** Once per Federation, and after the journal was lost: then its status and its rounds are all that is known. */
  #begin({ metadata: { name, uid, generation }, status }: Federation): TallyRow {
    const own = this.#objects.roundsOf(name).filter((round) => creatorOf(round) === uid);
    const lastNumber = Math.max(0, ...own.map((round) => numberInName(name, round.metadata.name)));
    const { succeeded = 0, failed = 0, cancelled = 0 } = status.rounds ?? {};
    const row: TallyRow = {
      schema: 1,
      uid,
      succeeded,
      failed,
      cancelled,
      failuresInRow: 0,
      generationOfRow: generation,
      created: Math.max(lastNumber, this.#createdBefore.get(uid) ?? 0),
      lastNumber: Math.max(lastNumber, this.#createdBefore.get(uid) ?? 0),
    };
    this.#rows.set(name, row);
    return row;
  }

  #set(federation: string, row: TallyRow): Write {
    this.#rows.set(federation, row);
    return { put: { space: SPACE, key: federation, value: Buffer.from(JSON.stringify(row)) } };
  }
}

/** The row with this round in it. */
function counted(row: TallyRow, record: RoundRecord, federation: Federation): TallyRow {
  const lastEndedMs = record.phaseTimes.at(-1)!.atMs;
  switch (record.phase) {
    case "Succeeded": {
      const loss = record.candidate?.metrics?.trainLoss;
      return {
        ...row,
        succeeded: row.succeeded + 1,
        failuresInRow: 0,
        lastEndedMs,
        ...(loss !== undefined && { lastTrainLoss: loss }),
      };
    }
    case "Failed": {
      const { generation } = federation.metadata;
      const { reason, message } = record.outcome!;
      return {
        ...row,
        failed: row.failed + 1,
        failuresInRow: row.generationOfRow === generation ? row.failuresInRow + 1 : 1,
        generationOfRow: generation,
        lastFailure: { round: record.name, reason, message },
        lastEndedMs,
      };
    }
    default:
      return { ...row, cancelled: row.cancelled + 1, lastEndedMs };
  }
}

/** k of `<federation>-r<k>`; 0 of any other name. */
export function numberInName(federation: string, round: string): number {
  const number = round.startsWith(`${federation}-r`) ? round.slice(federation.length + 2) : "";
  return /^[1-9][0-9]{0,5}$/.test(number) ? Number(number) : 0;
}

function json(bytes: Uint8Array): unknown {
  return JSON.parse(Buffer.from(bytes).toString("utf8"));
}
