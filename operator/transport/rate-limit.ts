/**
 * Token buckets by key, for a port where nobody is known yet. The clock is an argument.
 * Holds: memory is bounded by `mostKeys`; when there are more, the longest unseen are forgotten.
 */
export class RateLimit {
  readonly #burst: number;
  readonly #perMs: number;
  readonly #mostKeys: number;
  readonly #buckets = new Map<string, { tokens: number; atMs: number }>();

  constructor({ burst, perMinute, mostKeys }: { burst: number; perMinute: number; mostKeys: number }) {
    this.#burst = burst;
    this.#perMs = perMinute / 60_000;
    this.#mostKeys = mostKeys;
  }

  /** @returns whether this request of `key` may pass */
  take(key: string, nowMs: number): boolean {
    const before = this.#buckets.get(key) ?? { tokens: this.#burst, atMs: nowMs };
    const tokens = Math.min(this.#burst, before.tokens + Math.max(0, nowMs - before.atMs) * this.#perMs);
    const passes = tokens >= 1;
    this.#buckets.delete(key); // and set again: a Map keeps the order of insertion, so that the first is the longest unseen
    this.#buckets.set(key, { tokens: passes ? tokens - 1 : tokens, atMs: nowMs });
    if (this.#buckets.size > this.#mostKeys) this.#buckets.delete(this.#buckets.keys().next().value!);
    return passes;
  }
}
