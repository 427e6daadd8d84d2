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

/**
 * Whom an address is counted as: an IPv6 subscriber has a /64 at least, and could come from another address each time.
 * @param peer  address:port, as gRPC gives it: without brackets
 */
export function addressKey(peer: string): string {
  const address = peer.replace(/:\d+$/, "");
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped || !address.includes(":")) return mapped ?? address;
  const [head = "", tail] = address.split("::");
  const groups = head === "" ? [] : head.split(":");
  const behind = tail ? tail.split(":").length : 0;
  if (tail !== undefined) while (groups.length + behind < 8) groups.push("0");
  return `${groups.slice(0, 4).join(":")}::/64`;
}
