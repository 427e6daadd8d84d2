/** Stands in for a WatchCache in tests of those who listen to one: it has what it is told, and tells it on with what was before. */
import type { ChangeHandler } from "../cache.ts";
import type { RawObject } from "../objects.ts";

export class ToldCache {
  readonly #objects = new Map<string, RawObject>();
  readonly #handlers = new Set<ChangeHandler<RawObject>>();

  onChange(handler: ChangeHandler<RawObject>): () => void {
    this.#handlers.add(handler);
    for (const [key, object] of this.#objects) handler(key, object, undefined);
    return () => this.#handlers.delete(handler);
  }

  list(): RawObject[] {
    return [...this.#objects.values()];
  }

  /** @param object  undefined: it is deleted */
  tell(key: string, object: RawObject | undefined): void {
    const before = this.#objects.get(key);
    if (object) this.#objects.set(key, object);
    else this.#objects.delete(key);
    for (const handler of this.#handlers) handler(key, object, before);
  }
}
