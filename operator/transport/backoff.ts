/**
 * How long to wait before the next try: doubling, with jitter, so that the agents of a restarted operator do not come back as one.
 */
export interface BackoffOptions {
  firstMs: number;
  mostMs: number;
  /** In [0, 1); an argument, so that a test can fix it. Nothing secret depends on it. */
  random: () => number;
}

export class Backoff {
  readonly #options: BackoffOptions;
  #nextMs: number;

  constructor(options: BackoffOptions) {
    this.#options = options;
    this.#nextMs = options.firstMs;
  }

  /** The next wait: between half of it and all of it. */
  next(): number {
    const whole = this.#nextMs;
    this.#nextMs = Math.min(whole * 2, this.#options.mostMs);
    return whole / 2 + (whole / 2) * this.#options.random();
  }

  /** After a success. */
  reset(): void {
    this.#nextMs = this.#options.firstMs;
  }
}

/** Waits, or returns early when the signal is aborted. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
      return;
    }
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done, { once: true });
  });
}
