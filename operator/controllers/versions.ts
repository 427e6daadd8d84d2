/**
 * Which adapter of a federation is active, and which number the next one has (journal spaces "adapters" and "versions").
 * Holds: a version's number is given to one round only, also when that round fails while it publishes, so that a tag that was
 *   once pushed keeps its meaning; the journal's answer is never behind our own deeds, as a cache may be.
 * Does not: write AdapterVersion objects. When the journal was lost, they are what is believed.
 */
import { z } from "zod";
import type { Journal, Write } from "../journal/journal.ts";
import type { Objects } from "./objects.ts";

export const activeSchema = z.strictObject({
  version: z.int().min(0),
  name: z.string(),
  /** Of the OCI manifest. */
  digest: z.string(),
  /** SHA-256 of adapter_model.safetensors. */
  adapterDigest: z.string(),
  reference: z.string(),
  byteLength: z.int().min(0),
});
export type ActiveVersion = z.infer<typeof activeSchema>;

const SPACE = "adapters";

export class Versions {
  readonly #journal: Journal;
  readonly #objects: Objects;
  readonly #active = new Map<string, ActiveVersion>();

  constructor(journal: Journal, objects: Objects) {
    this.#journal = journal;
    this.#objects = objects;
  }

  async load(): Promise<void> {
    for (const { key, value } of await this.#journal.entries(SPACE))
      this.#active.set(key, activeSchema.parse(JSON.parse(Buffer.from(value).toString("utf8"))));
  }

  active(federation: string): ActiveVersion | undefined {
    const journalled = this.#active.get(federation);
    const newest = this.#objects.newestVersionOf(federation);
    if (!newest || (journalled && journalled.version >= newest.spec.version)) return journalled;
    const { version, digest, adapterDigest, reference } = newest.spec;
    return { version, name: newest.metadata.name, digest, adapterDigest, reference, byteLength: 0 };
  }

  /** For the same commit as what made it active; call activated() once that is on disk. */
  activation(federation: string, active: ActiveVersion): Write {
    return { put: { space: SPACE, key: federation, value: Buffer.from(JSON.stringify(active)) } };
  }

  activated(federation: string, active: ActiveVersion): void {
    this.#active.set(federation, active);
  }

  /** The Federation is gone: whoever takes its name finds what AdapterVersions there are. */
  async forget(federation: string): Promise<void> {
    if (this.#active.delete(federation)) await this.#journal.commit([{ remove: { space: SPACE, key: federation } }]);
  }

  federations(): string[] {
    return [...this.#active.keys()];
  }

  /** The number that belongs to this round, for good. */
  async numberFor(federation: string, roundUid: string): Promise<number> {
    // Above what is there already: the journal may be younger than the objects.
    const highest = Math.max(
      this.active(federation)?.version ?? 0,
      this.#objects.newestVersionOf(federation)?.spec.version ?? 0,
    );
    const keep = { space: "versions", key: `${federation}/${roundUid}` };
    return this.#journal.increment(`version/${federation}`, { above: highest, keep });
  }
}
