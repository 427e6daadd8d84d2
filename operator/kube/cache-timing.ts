/** When a watch cache watches, lists and waits. The figures are client-go's where it has one. */
export type CacheTiming = {
  firstBackoffMs: number;
  maxBackoffMs: number;
  /** A connection that lasted this long starts the backoff anew. */
  healthyMs: number;
  /** Least and most seconds after which the server ends a watch. */
  watchSeconds: [number, number];
  /** Without a byte for this long a watch is given up; the server sends a bookmark every minute. */
  silenceMs: number;
  /** The list that comes even if the watch never fails, at the next end of a watch: bounds how long a lost event can go unnoticed. */
  relistMs: number;
};

export const CACHE_TIMING: CacheTiming = {
  firstBackoffMs: 800,
  maxBackoffMs: 30_000,
  healthyMs: 120_000,
  watchSeconds: [300, 600],
  silenceMs: 180_000,
  relistMs: 600_000,
};

export class WatchBackoff {
  readonly #timing: CacheTiming;
  readonly #random: () => number;
  #failures = 0;

  constructor(timing: CacheTiming, random: () => number = Math.random) {
    this.#timing = timing;
    this.#random = random; // jitter only
  }

  /** @param lastedMs  how long the attempt that just ended was alive */
  next(lastedMs: number): number {
    if (lastedMs >= this.#timing.healthyMs) this.#failures = 0;
    const delayMs = this.#timing.firstBackoffMs * 2 ** Math.min(this.#failures++, 20);
    return Math.min(this.#timing.maxBackoffMs, delayMs * (1 + this.#random()));
  }
}
