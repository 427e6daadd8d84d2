/**
 * Which rounds of a federation are open, and which ended ones it created: kept with each change of the cache, so that no reconcile looks
 * through a history of thousands.
 * Holds: open means that status says no terminal phase; the journal's record may be ahead of it and is never behind.
 */
import { isTerminal, type RoundPhase } from "../api/federation-round.ts";
import type { WatchCache } from "../kube/cache.ts";
import type { RawObject } from "../kube/objects.ts";

type Shelf = Map<string, RawObject>;

export class RoundIndex {
  readonly #open = new Map<string, Shelf>();
  readonly #all = new Map<string, Shelf>();
  readonly #ended = new Map<string, Shelf>();

  constructor(cache: Pick<WatchCache<RawObject>, "onChange">) {
    cache.onChange((key, round, before) => {
      if (before) this.#takeOff(key, before);
      if (round) this.#putOn(key, round);
    });
  }

  all(federation: string): Iterable<RawObject> {
    return this.#all.get(federation)?.values() ?? [];
  }

  open(federation: string): Iterable<RawObject> {
    return this.#open.get(federation)?.values() ?? [];
  }

  /** Ended rounds that the object with this uid created. */
  ended(creator: string): ReadonlyMap<string, RawObject> {
    return this.#ended.get(creator) ?? new Map();
  }

  #putOn(key: string, round: RawObject): void {
    for (const [index, at] of this.#placesOf(round)) {
      const shelf = index.get(at) ?? new Map();
      index.set(at, shelf.set(key, round));
    }
  }

  #takeOff(key: string, before: RawObject): void {
    for (const [index, at] of this.#placesOf(before)) {
      const shelf = index.get(at);
      shelf?.delete(key);
      if (shelf?.size === 0) index.delete(at);
    }
  }

  #placesOf(round: RawObject): Array<[index: Map<string, Shelf>, at: string]> {
    const { federation } = round.spec as { federation: string };
    const { phase } = (round.status ?? {}) as { phase?: RoundPhase };
    const creator = creatorOf(round);
    const places: Array<[Map<string, Shelf>, string]> = [[this.#all, federation]];
    if (!isTerminal(phase)) places.push([this.#open, federation]);
    else if (creator !== undefined) places.push([this.#ended, creator]);
    return places;
  }
}

export interface Owned {
  metadata: Pick<RawObject["metadata"], "name" | "ownerReferences">;
}

/** uid of the Federation that created this round; undefined of one that was made by hand. */
export function creatorOf(round: Owned): string | undefined {
  return round.metadata.ownerReferences?.find(({ controller }) => controller)?.uid;
}
