/**
 * How rounds ended whose objects are gone: the same manifest applied again under the same name (one that is kept in Git) gets its outcome
 * back and does not run twice. Journal space "outcomes", key: federation/round.
 * Holds: only a round that had a number leaves one, and only as long as its Federation exists; what another spec asks is another round.
 */
import { createHash } from "node:crypto";
import { z } from "zod";
import type { FederationRound, FederationRoundSpec } from "../api/federation-round.ts";
import type { Journal, Write } from "../journal/journal.ts";
import { decodeRecord, encodeRecord, isTerminal, type RoundIdentity, type RoundRecord } from "../round/record.ts";
import type { Objects } from "./objects.ts";
import { there } from "./objects.ts";

const SPACE = "outcomes";

const storedSchema = z.strictObject({
  schema: z.literal(1),
  record: z.unknown(),
});

export class Outcomes {
  readonly #journal: Journal;
  readonly #objects: Pick<Objects, "federation">;

  constructor(journal: Journal, objects: Pick<Objects, "federation">) {
    this.#journal = journal;
    this.#objects = objects;
  }

  /** The record with the Federation that has just given it its number: whose outcome it will be. */
  attribute(record: RoundRecord): RoundRecord {
    if (record.number === undefined || record.federationUid !== undefined) return record;
    const uid = this.#uidOf(record.federation);
    return uid === undefined ? record : { ...record, federationUid: uid };
  }

  /** @param record  terminal. @returns what belongs into the commit that forgets it */
  async keep(record: RoundRecord): Promise<Write[]> {
    const { federationUid: uid, number, specHash: hash } = record;
    if (number === undefined || hash === undefined || uid === undefined) return [];
    if (uid !== this.#uidOf(record.federation)) return [];
    const kept = await this.#read(record.federation, record.name);
    // Recalled once already: what it says now has our sentence before its own.
    if (kept?.federationUid === uid && kept.number === number) return [];
    const stored = { schema: 1, record: JSON.parse(text(encodeRecord(withoutBulk(record)))) };
    const key = keyOf(record.federation, record.name);
    return [{ put: { space: SPACE, key, value: Buffer.from(JSON.stringify(stored)) } }];
  }

  /** The terminal record of the round that ran under this name with this spec; undefined where this one is to run. */
  async recall(round: FederationRound): Promise<RoundRecord | undefined> {
    const identity = identityOf(round);
    const record = await this.#read(identity.federation, identity.name);
    if (record?.federationUid === undefined || record.federationUid !== this.#uidOf(identity.federation))
      return undefined;
    if (record.specHash !== identity.specHash || !isTerminal(record)) return undefined;
    const { reason, message } = record.outcome!;
    const again = `this name has run already, as round ${record.number}, and does not run twice; another name runs it again. It ended so: ${message}`;
    return { ...record, ...identity, outcome: { reason, message: again } };
  }

  /** The Federation is gone. */
  async forget(federation: string): Promise<void> {
    const entries = await this.#journal.entries(SPACE, keyOf(federation, ""));
    if (entries.length > 0) await this.#journal.commit(entries.map(({ key }) => ({ remove: { space: SPACE, key } })));
  }

  async #read(federation: string, name: string): Promise<RoundRecord | undefined> {
    const bytes = await this.#journal.get(SPACE, keyOf(federation, name));
    if (!bytes) return undefined;
    const stored = storedSchema.parse(JSON.parse(text(bytes)));
    return decodeRecord(Buffer.from(JSON.stringify(stored.record)));
  }

  #uidOf(federation: string): string | undefined {
    return there(this.#objects.federation(federation))?.metadata.uid;
  }
}

export function identityOf({ metadata: { name, uid }, spec }: FederationRound): RoundIdentity & { specHash: string } {
  return { name, uid, federation: spec.federation, specHash: specHash(spec) };
}

/** SHA-256, hex, of the spec with its keys in order; whether the round was cancelled does not make it another. */
export function specHash({ cancel: _cancel, ...spec }: FederationRoundSpec): string {
  return createHash("sha256").update(JSON.stringify(spec, inOrder)).digest("hex");
}

function inOrder(_key: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** What status shows, without what only the work needed: a federation may leave thousands of these. */
function withoutBulk(record: RoundRecord): RoundRecord {
  const { draw: _draw, sample: _sample, next: _next, secure, ...rest } = record;
  return {
    ...rest,
    participants: record.participants.map(({ progress: _progress, ...participant }) => participant),
    contributions: [],
    ...(secure && { secure: { ...secure, dealers: [], cohorts: secure.cohorts.map(emptied) } }),
  };
}

type Cohort = NonNullable<RoundRecord["secure"]>["cohorts"][number];

/** Its threshold is in status. */
function emptied({ threshold, step, sinceMs }: Cohort): Cohort {
  return { members: [], threshold, step, sinceMs, answered: [], gone: [], accusations: [] };
}

function keyOf(federation: string, round: string): string {
  return `${federation}/${round}`;
}

function text(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("utf8");
}
