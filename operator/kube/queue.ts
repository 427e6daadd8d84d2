/**
 * Rate-limited keyed work queue, after client-go's.
 * Holds: a key waits at most once; a key is never worked on twice at the same time: added meanwhile, it is worked on
 *   once more afterwards. Of several delays for one key the earliest counts.
 * Does not: run anything (controller.ts).
 */
import type { QueueMetrics } from "./metrics.ts";

export type QueueOptions = {
  name: string;
  /** Delay after the first failure of a key; doubled with each further one. Default 250 ms. */
  baseDelayMs?: number;
  /** Default 60 s: reconciles here are cheap, and a round has deadlines in minutes. */
  maxDelayMs?: number;
  metrics?: QueueMetrics;
  /** Jitter: one draw in [0, 1). */
  random?: () => number;
};

export class WorkQueue {
  readonly name: string;
  readonly #baseDelayMs: number;
  readonly #maxDelayMs: number;
  readonly #metrics: QueueMetrics | undefined;
  readonly #random: () => number;
  /** Waiting keys in order, with the time they came. */
  readonly #waiting = new Map<string, number>();
  readonly #processing = new Map<string, number>();
  /** Added while being worked on. */
  readonly #again = new Set<string>();
  readonly #delayed = new Map<string, { at: number; timer: NodeJS.Timeout }>();
  readonly #failures = new Map<string, number>();
  readonly #takers: ((key: string | undefined) => void)[] = [];
  #isShutDown = false;
  #drained: PromiseWithResolvers<void> | undefined;

  constructor(options: QueueOptions) {
    this.name = options.name;
    this.#baseDelayMs = options.baseDelayMs ?? 250;
    this.#maxDelayMs = options.maxDelayMs ?? 60_000;
    this.#metrics = options.metrics;
    this.#random = options.random ?? Math.random; // jitter only
  }

  /** Keys waiting now; those being worked on or delayed are not among them. */
  get depth(): number {
    return this.#waiting.size;
  }

  get isShutDown(): boolean {
    return this.#isShutDown;
  }

  add(key: string): void {
    if (this.#isShutDown) return;
    // What the delayed reconcile would have looked at is looked at now.
    this.#cancelDelay(key);
    if (this.#waiting.has(key) || this.#again.has(key)) return;
    this.#metrics?.added(this.name);
    if (this.#processing.has(key)) this.#again.add(key);
    else this.#enqueue(key);
  }

  /** The earlier of two delays of one key wins. */
  addAfter(key: string, delayMs: number): void {
    if (this.#isShutDown) return;
    if (delayMs <= 0) {
      this.add(key);
      return;
    }
    const at = performance.now() + delayMs;
    const other = this.#delayed.get(key);
    if (other && other.at <= at) return;
    this.#cancelDelay(key);
    // setTimeout takes 31 bits of milliseconds and fires at once beyond; to look once in 24 days too early is harmless.
    const timer = setTimeout(() => this.add(key), Math.min(delayMs, 2 ** 31 - 1));
    this.#delayed.set(key, { at, timer });
  }

  /** Adds after the key's backoff: base · 2^failures with ±50 % jitter, at most the maximum. */
  addRateLimited(key: string): void {
    const failures = this.#failures.get(key) ?? 0;
    this.#failures.set(key, failures + 1);
    this.#metrics?.retried(this.name);
    const delayMs = Math.min(this.#maxDelayMs, this.#baseDelayMs * 2 ** Math.min(failures, 30));
    this.addAfter(key, delayMs * (0.5 + this.#random()));
  }

  /** The key succeeded: its backoff starts anew. */
  forget(key: string): void {
    this.#failures.delete(key);
  }

  failures(key: string): number {
    return this.#failures.get(key) ?? 0;
  }

  /** The next key, which is the taker's until done(key); undefined after shutDown. */
  take(): Promise<string | undefined> {
    const first = this.#waiting.keys().next();
    if (!first.done) return Promise.resolve(this.#start(first.value));
    if (this.#isShutDown) return Promise.resolve(undefined);
    const { promise, resolve } = Promise.withResolvers<string | undefined>();
    this.#takers.push(resolve);
    return promise;
  }

  done(key: string): void {
    const startedAt = this.#processing.get(key);
    if (startedAt === undefined) return;
    this.#processing.delete(key);
    this.#metrics?.worked(this.name, (performance.now() - startedAt) / 1000);
    if (this.#again.delete(key) && !this.#isShutDown) this.#enqueue(key);
    if (this.#processing.size === 0) this.#drained?.resolve();
  }

  /** Drops what waits or is delayed, and resolves when nothing is being worked on any more. */
  shutDown(): Promise<void> {
    this.#isShutDown = true;
    for (const key of [...this.#delayed.keys()]) this.#cancelDelay(key);
    this.#waiting.clear();
    this.#again.clear();
    this.#metrics?.depth(this.name, 0);
    for (const taker of this.#takers.splice(0)) taker(undefined);
    this.#drained ??= Promise.withResolvers<void>();
    if (this.#processing.size === 0) this.#drained.resolve();
    return this.#drained.promise;
  }

  #enqueue(key: string): void {
    this.#waiting.set(key, performance.now());
    this.#metrics?.depth(this.name, this.#waiting.size);
    this.#takers.shift()?.(this.#start(key));
  }

  #start(key: string): string {
    const now = performance.now();
    this.#metrics?.waited(this.name, (now - (this.#waiting.get(key) ?? now)) / 1000);
    this.#waiting.delete(key);
    this.#processing.set(key, now);
    this.#metrics?.depth(this.name, this.#waiting.size);
    return key;
  }

  #cancelDelay(key: string): void {
    const delayed = this.#delayed.get(key);
    if (!delayed) return;
    clearTimeout(delayed.timer);
    this.#delayed.delete(key);
  }
}
