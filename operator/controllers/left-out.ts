/**
 * Participants that a federation invites no more: they dealt shares that do not fit together, and cost it a round (secure-aggregation.md §3
 * "Bad shares"). Journal space "left-out": federation/participant → the identity that did it.
 * Holds: it is the identity that is left out: a site that enrols anew is another dealer.
 */
import type { Journal, Write } from "../journal/journal.ts";

const SPACE = "left-out";

export class LeftOut {
  readonly #journal: Journal;
  readonly #identities = new Map<string, string>();

  constructor(journal: Journal) {
    this.#journal = journal;
  }

  async load(): Promise<void> {
    for (const { key, value } of await this.#journal.entries(SPACE))
      this.#identities.set(key, Buffer.from(value).toString("utf8"));
  }

  /** @param identity  base64, of its enrolment now */
  has(federation: string, participant: string, identity: string | undefined): boolean {
    return identity !== undefined && this.#identities.get(`${federation}/${participant}`) === identity;
  }

  /** For the same commit as the round's end under their names. */
  add(federation: string, dealers: ReadonlyArray<{ participant: string; identity: string }>): Write[] {
    return dealers.map(({ participant, identity }) => {
      const key = `${federation}/${participant}`;
      this.#identities.set(key, identity);
      return { put: { space: SPACE, key, value: Buffer.from(identity) } };
    });
  }

  /** The Federation is gone: whoever takes its name begins anew. */
  async forget(federation: string): Promise<void> {
    const keys = [...this.#identities.keys()].filter((key) => key.startsWith(`${federation}/`));
    for (const key of keys) this.#identities.delete(key);
    if (keys.length > 0) await this.#journal.commit(keys.map((key) => ({ remove: { space: SPACE, key } })));
  }
}
