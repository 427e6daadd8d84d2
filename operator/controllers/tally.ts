/**
 * What a federation's rounds have come to: all there ever were, not those whose objects still exist. Journal spaces "tally" (how they ended)
 * and "creations" (which of them the federation created), key: name of the Federation.
 * Holds: a round is counted in the very commit that ends its record, so never twice and never not; a row belongs to one Federation object,
 *   and one that is created anew under its name begins at nothing. Two rows, because two reconciles write them: neither commit can bring
 *   back what the other has changed meanwhile.
 * Does not: decide whether a next round begins (federation/next-round.ts).
 */
import { z } from "zod";
import type { Federation } from "../api/federation.ts";
import type { Journal, Write } from "../journal/journal.ts";
import { isTerminal, type RoundRecord } from "../round/record.ts";
import { type Objects, there } from "./objects.ts";
import { creatorOf, type Owned } from "./round-index.ts";

const TALLY = "tally";
const CREATIONS = "creations";
/** How many rounds a Federation (by uid) had created, as releases before these rows wrote it. */
const CREATED_BEFORE = "created-rounds";

const count = z.int().min(0);

const tallySchema = z.strictObject({
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
});
/** Treated as immutable. */
export type TallyRow = Readonly<z.infer<typeof tallySchema>>;

const creationsSchema = z.strictObject({
  schema: z.literal(1),
  uid: z.string(),
  /** Rounds that the federation itself created. */
  created: count,
  /** In the name of the last of them, or of a round made by hand that had the name of the next. */
  lastNumber: count,
  /** On disk before the object is created, so that one that a crash left behind is known as the federation's own. */
  creating: z.string().optional(),
});
/** Treated as immutable. */
export type Creations = Readonly<z.infer<typeof creationsSchema>>;

export class Tally {
  readonly #journal: Journal;
  readonly #objects: Pick<Objects, "federation" | "roundsOf">;
  readonly #rows = new Map<string, TallyRow>();
  readonly #creations = new Map<string, Creations>();
  readonly #createdBefore = new Map<string, number>();

  constructor(journal: Journal, objects: Pick<Objects, "federation" | "roundsOf">) {
    this.#journal = journal;
    this.#objects = objects;
  }

  async load(): Promise<void> {
    for (const { key, value } of await this.#journal.entries(TALLY))
      this.#rows.set(key, tallySchema.parse(json(value)));
    for (const { key, value } of await this.#journal.entries(CREATIONS))
      this.#creations.set(key, creationsSchema.parse(json(value)));
    for (const { key, value } of await this.#journal.entries(CREATED_BEFORE))
      this.#createdBefore.set(key, z.int().parse(json(value)));
  }

  of(federation: Federation): TallyRow {
    const row = this.#rows.get(federation.metadata.name);
    return row?.uid === federation.metadata.uid ? row : this.#firstRow(federation);
  }

  creations(federation: Federation): Creations {
    const creations = this.#creations.get(federation.metadata.name);
    return creations?.uid === federation.metadata.uid ? creations : this.#firstCreations(federation);
  }

  /** For the same commit as the record's change; nothing unless this change ends it. */
  writes(before: RoundRecord, after: RoundRecord): Write[] {
    if (isTerminal(before) || !isTerminal(after)) return [];
    const federation = there(this.#objects.federation(after.federation));
    const { federationUid = federation?.metadata.uid } = after;
    if (!federation || federationUid !== federation.metadata.uid) return [];
    const row = counted(this.of(federation), after, federation);
    this.#rows.set(after.federation, row);
    return [put(TALLY, after.federation, row)];
  }

  /** How many rounds the federation had created before this one, which may be its own and still on its way. */
  createdBefore(federation: Federation, round: Owned): number {
    const { created, creating } = this.creations(federation);
    const isCounted = creatorOf(round) === federation.metadata.uid && round.metadata.name !== creating;
    return isCounted ? created - 1 : created;
  }

  /** From now on a round of this name is the federation's own. Durable when it resolves. */
  async creating(federation: Federation, round: string): Promise<void> {
    await this.#change(federation, { ...this.creations(federation), creating: round });
  }

  /** The round that was being created is there; or its name is somebody else's, and it counts for nothing. Durable when it resolves. */
  async settled(federation: Federation, { isOwn }: { isOwn: boolean }): Promise<void> {
    const { creating: _settled, created, lastNumber, ...rest } = this.creations(federation);
    await this.#change(federation, { ...rest, created: isOwn ? created + 1 : created, lastNumber: lastNumber + 1 });
  }

  /** The Federation is gone: whoever takes its name begins anew. */
  async forget(federation: string): Promise<void> {
    const uids = [this.#rows, this.#creations].flatMap((rows) => rows.get(federation)?.uid ?? []);
    if (uids.length === 0) return;
    this.#rows.delete(federation);
    this.#creations.delete(federation);
    await this.#journal.commit([
      ...[TALLY, CREATIONS].map((space) => ({ remove: { space, key: federation } })),
      ...uids.map((key) => ({ remove: { space: CREATED_BEFORE, key } })),
    ]);
  }

  federations(): string[] {
    return [...new Set([...this.#rows.keys(), ...this.#creations.keys()])];
  }

  /** Until its first round has ended, and after the journal was lost: then its status is all that is known. */
  #firstRow({ metadata: { name, uid, generation }, status }: Federation): TallyRow {
    const { succeeded = 0, failed = 0, cancelled = 0 } = status.rounds ?? {};
    const counts = { succeeded, failed, cancelled };
    const row: TallyRow = { schema: 1, uid, ...counts, failuresInRow: 0, generationOfRow: generation };
    this.#rows.set(name, row);
    return row;
  }

  /** The same; here it is the rounds that it owns. */
  #firstCreations({ metadata: { name, uid } }: Federation): Creations {
    const own = this.#objects.roundsOf(name).filter((round) => creatorOf(round) === uid);
    const numbers = own.map((round) => numberInName(name, round.metadata.name));
    const created = Math.max(0, this.#createdBefore.get(uid) ?? 0, ...numbers);
    const creations: Creations = { schema: 1, uid, created, lastNumber: created };
    this.#creations.set(name, creations);
    return creations;
  }

  async #change(federation: Federation, creations: Creations): Promise<void> {
    const { name } = federation.metadata;
    this.#creations.set(name, creations);
    await this.#journal.commit([put(CREATIONS, name, creations)]);
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

function put(space: string, key: string, row: TallyRow | Creations): Write {
  return { put: { space, key, value: Buffer.from(JSON.stringify(row)) } };
}

function json(bytes: Uint8Array): unknown {
  return JSON.parse(Buffer.from(bytes).toString("utf8"));
}
