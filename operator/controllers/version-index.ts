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

  constructor(cache: Pick<WatchCache<RawObject>, "onChange">) {
    cache.onChange((key, raw, before) => {
      if (before) this.#takeOff(key, before);
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
  }

  #takeOff(key: string, before: RawObject): void {
    const { federation } = before.spec as { federation: string };
    const shelf = this.#shelves.get(federation);
    const gone = shelf?.versions.get(key);
    if (!shelf || !gone) return;
    shelf.versions.delete(key);
    const rest = [...shelf.versions.values()];
    if (rest.length === 0) this.#shelves.delete(federation);
    else if (gone === shelf.newest) shelf.newest = rest.reduce((a, b) => (b.spec.version > a.spec.version ? b : a));
  }
}
