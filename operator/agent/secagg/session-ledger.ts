/**
 * The sessions of secure aggregation in the agent's ledger: one row per assignment, its secrets under a key of their own, which rounds have
 * used up a parent, and the highest round MASKED of each federation (secure-aggregation.md §6).
 * Holds: row and secrets change in one commit; secrets that a state does not need any more are overwritten on disk before that commit
 * resolves (the journal erases what is removed); the limit per parent is checked and used up in one turn.
 */
import type { Write } from "../../journal/journal.ts";
import { assignmentKey } from "../record.ts";
import { parsed, put, remove, type Store } from "../store.ts";
import { type SessionRow, sessionRowSchema } from "./session-record.ts";

const SPACE = {
  sessions: "sessions",
  secrets: "session-secrets",
  spent: "spent-parents",
  masked: "highest-masked",
  /** Sessions that were released or superseded; inserted, so that none can be both (secure-aggregation.md §6.3). */
  ends: "session-ends",
  /** Highest round of a federation that this ledger knows only from the identity Secret: it is older than what was done. */
  forgotten: "forgotten-rounds",
} as const;

export interface SessionOf {
  federation: string;
  round: number;
  attempt: number;
  purpose: string;
}

export interface KeptSession {
  row: SessionRow;
  secrets?: string | undefined;
}

/** A parent's releases are used up. */
export class ParentReused extends Error {
  override readonly name = "ParentReused";
}

export class SessionLedger {
  readonly #store: Store;
  #masking: Promise<unknown> = Promise.resolve();

  constructor(store: Store) {
    this.#store = store;
  }

  async load(of: SessionOf): Promise<KeptSession | undefined> {
    const row = await this.row(of);
    if (!row) return undefined;
    const secrets = await this.#store.get(SPACE.secrets, keyOf(of));
    return { row, ...(secrets ? { secrets: Buffer.from(secrets).toString("utf8") } : {}) };
  }

  async row(of: SessionOf): Promise<SessionRow | undefined> {
    const row = await this.#store.get(SPACE.sessions, keyOf(of));
    return row && sessionRowSchema.parse(parsed(row));
  }

  async save(of: SessionOf, session: KeptSession): Promise<void> {
    await this.#store.commit(this.writes(of, session));
  }

  /** As save(), to be committed with something else. */
  writes(of: SessionOf, { row, secrets }: KeptSession): Write[] {
    const key = keyOf(of);
    return [
      put(SPACE.sessions, key, row),
      // Removed first even where new ones follow: only a removal makes the journal overwrite what was there.
      remove(SPACE.secrets, key),
      ...(secrets === undefined
        ? []
        : [{ put: { space: SPACE.secrets, key, value: new TextEncoder().encode(secrets) } }]),
    ];
  }

  /** Enters RELEASED. @throws JournalFault "Exists", with nothing written, when a later attempt has superseded this session */
  async saveReleased(of: SessionOf, session: KeptSession): Promise<void> {
    await this.#store.commit([endMark(of, "RELEASED"), ...this.writes(of, session)]);
  }

  /**
   * For the commit in which a later attempt takes over: this session is aborted and its secrets are erased, or it will never begin.
   * To be called while nothing else changes the session.
   * @returns undefined when there is nothing to take over: it is RELEASED or ABORTED
   */
  async supersedeWrites(of: SessionOf, aborted: SessionRow): Promise<Write[] | undefined> {
    const row = await this.row(of);
    if (row?.state === "RELEASED" || row?.state === "ABORTED") return undefined;
    return [endMark(of, "SUPERSEDED"), ...(row ? this.writes(of, { row: aborted }) : [])];
  }

  /**
   * Enters MASKED: from now on others may have opened a sum with this site's delta in it, so the parent counts as used by this round.
   * @param limit  policy.releasesPerParent
   * @throws ParentReused, with nothing written
   */
  saveMasked(of: SessionOf & { parent: string; limit: number }, session: KeptSession): Promise<void> {
    const saved = this.#masking.then(async () => {
      if ((await this.spentByOthers(of)) >= of.limit) throw new ParentReused(parentReused(of.limit));
      const highest = Math.max(of.round, await this.highestMasked(of.federation));
      await this.#store.commit([
        ...this.writes(of, session),
        put(SPACE.spent, spentKey(of), of.round),
        put(SPACE.masked, of.federation, highest),
      ]);
    });
    this.#masking = saved.catch(() => undefined);
    return saved;
  }

  /**
   * How many other sessions have used this parent (sha256:…): rounds, and each attempt of a round, for each may have been opened (§6.3). Of
   * all federations: they are the coordinator's to name, and what two
   * of them start from the same adapter differs as little.
   */
  async spentByOthers(of: Spender): Promise<number> {
    const entries = await this.#store.entries(SPACE.spent, `${of.parent}#`);
    return entries.filter(({ key }) => key !== spentKey(of)).length;
  }

  /** 0: none. */
  async highestMasked(federation: string): Promise<number> {
    return numberOf(await this.#store.get(SPACE.masked, federation));
  }

  async allHighestMasked(): Promise<Map<string, number>> {
    const entries = await this.#store.entries(SPACE.masked);
    return new Map(entries.map(({ key, value }) => [key, numberOf(value)]));
  }

  /** Rounds up to this one were worked on under another ledger; 0: none. */
  async forgotten(federation: string): Promise<number> {
    return numberOf(await this.#store.get(SPACE.forgotten, federation));
  }

  async saveForgotten(federation: string, round: number): Promise<void> {
    await this.#store.commit([put(SPACE.forgotten, federation, round), put(SPACE.masked, federation, round)]);
  }

  /** Of an assignment that the ledger forgets; what has used up its parent is never forgotten. */
  forget(of: SessionOf): Write[] {
    return [SPACE.sessions, SPACE.secrets, SPACE.ends].map((space) => remove(space, keyOf(of)));
  }
}

interface Spender {
  federation: string;
  round: number;
  attempt: number;
  parent: string;
}

/** Of two that would end one session, the second fails. */
function endMark(of: SessionOf, how: "RELEASED" | "SUPERSEDED"): Write {
  return { insert: { space: SPACE.ends, key: keyOf(of), value: new TextEncoder().encode(how) } };
}

export function parentReused(limit: number): string {
  return `policy: ${limit} sums from this parent adapter may hold this site's delta already, and their differences tell on members`;
}

function keyOf(of: SessionOf): string {
  return `${assignmentKey(of)}#${of.purpose}`;
}

function spentKey({ federation, parent, round, attempt }: Spender): string {
  const first = `${parent}#${federation}#${round}`;
  return attempt === 1 ? first : `${first}#${attempt}`;
}

function numberOf(value: Uint8Array | undefined): number {
  return value ? Number(parsed(value)) : 0;
}
