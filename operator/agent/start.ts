/**
 * A start that can be given up at any instant: what has been opened is closed again, in the reverse order, and nothing is opened after that.
 * Holds: undo() ends within a bounded time, however the parts hang.
 */

/** For one part to close; kubelet waits 30 s before it kills. */
const CLOSE_MS = 3_000;

export class Start {
  readonly #signal: AbortSignal | undefined;
  readonly #undo: Array<() => Promise<unknown>> = [];
  #isOver = false;

  constructor(signal?: AbortSignal) {
    this.#signal = signal;
  }

  /** Right after something was opened. @throws when the start was given up meanwhile, with it closed again */
  async opened(close: () => Promise<unknown>): Promise<void> {
    if (!this.#isOver && !this.#signal?.aborted) {
      this.#undo.push(close);
      return;
    }
    await close();
    throw this.#reason;
  }

  throwIfStopped(): void {
    if (this.#isOver || this.#signal?.aborted) throw this.#reason;
  }

  /** @throws the signal's reason as soon as there is one, whatever the work is waiting for */
  async unlessStopped<T>(work: Promise<T>): Promise<T> {
    const stopped = Promise.withResolvers<never>();
    const stop = () => stopped.reject(this.#reason);
    if (this.#signal?.aborted) stop();
    this.#signal?.addEventListener("abort", stop, { once: true });
    try {
      return await Promise.race([work, stopped.promise]);
    } finally {
      this.#signal?.removeEventListener("abort", stop);
      work.catch(() => {}); // what it says after it was given up is nobody's
      stopped.promise.catch(() => {});
    }
  }

  /** Closes what was opened, the last one first. Faults of closing are nobody's: the start has failed already. */
  async undo(): Promise<void> {
    this.#isOver = true;
    for (const close of this.#undo.splice(0).reverse()) {
      const timer = Promise.withResolvers<void>();
      const timeout = setTimeout(timer.resolve, CLOSE_MS);
      await Promise.race([close().catch(() => {}), timer.promise]);
      clearTimeout(timeout);
    }
  }

  get #reason(): unknown {
    return this.#signal?.reason ?? new Error("the start was given up");
  }
}
