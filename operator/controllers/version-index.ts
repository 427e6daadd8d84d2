/**
 * The AdapterVersions of each federation, and the newest of them: kept with each change of the cache, so that nobody sorts a thousand to find
 * one. An object that does not fit the schema (written by a newer release) is not among them.
 */
import { type AdapterVersion, adapterVersionSchema } from "../api/adapter-version.ts";
import type { WatchCache } from "../kube/cache.ts";
import type { RawObject } from "../kube/objects.ts";
import { readAs } from "./objects.ts";

interface Shelf {
  versions: Map<string, AdapterVersion>;
  newest: AdapterVersion;
}

export class VersionIndex {
  readonly #shelves = new Map<string, Shelf>();
  /** By the key of the object: whose version it is. */
  readonly #federations = new Map<string, string>();

  constructor(cache: Pick<WatchCache<RawObject>, "onChange">) {
    cache.onChange((key, raw) => {
      this.#takeOff(key);
      const read = readAs(adapterVersionSchema, raw);
      if (read.kind === "there") this.#putOn(key, read.object);
    });
  }

  all(federation: string): Iterable<AdapterVersion> {
    return this.#shelves.get(federation)?.versions.values() ?? [];
  }

  newest(federation: string): AdapterVersion | undefined {
    return this.#shelves.get(federation)?.newest;
  }

  #putOn(key: string, version: AdapterVersion): void {
    const { federation } = version.spec;
    const shelf = this.#shelves.get(federation) ?? { versions: new Map(), newest: version };
    shelf.versions.set(key, version);
    if (version.spec.version >= shelf.newest.spec.version) shelf.newest = version;
    this.#shelves.set(federation, shelf);
    this.#federations.set(key, federation);
  }

  #takeOff(key: string): void {
    const federation = this.#federations.get(key);
    const shelf = federation === undefined ? undefined : this.#shelves.get(federation);
    if (federation === undefined || !shelf) return;
    this.#federations.delete(key);
    const gone = shelf.versions.get(key);
    shelf.versions.delete(key);
    const rest = [...shelf.versions.values()];
    if (rest.length === 0) this.#shelves.delete(federation);
    else if (gone === shelf.newest) shelf.newest = rest.reduce((a, b) => (b.spec.version > a.spec.version ? b : a));
  }
}
