/**
 * Long work beside the reconciles: a push, a sum, a pull. A reconcile starts it and goes on; its end wakes the same key again.
 * Holds: one piece of work of a name and key runs at a time; its last result is kept until it is started anew or forgotten.
 * Does not: survive a restart. What must survive is journalled by the work itself; the rest is done again.
 */
export type Result<T> =
  | { kind: "done"; value: T }
  | { kind: "failed"; error: unknown; atMs: number /** In a row. */; tries: number };

interface Slot {
  abort: AbortController;
  running: boolean;
  result?: Result<unknown>;
}

export class Effects {
  readonly #slots = new Map<string, Map<string, Slot>>();
  readonly #wake: (key: string) => void;
  readonly #now: () => number;
  #pending = new Set<Promise<void>>();

  constructor(wake: (key: string) => void, now: () => number) {
    this.#wake = wake;
    this.#now = now;
  }

  /** Starts the work unless it runs already. */
  start<T>(key: string, name: string, work: (signal: AbortSignal) => Promise<T>): void {
    const slots = this.#slots.get(key) ?? new Map<string, Slot>();
    this.#slots.set(key, slots);
    const before = slots.get(name);
    if (before?.running) return;
    const tries = before?.result?.kind === "failed" ? before.result.tries : 0;
    const slot: Slot = {
      abort: new AbortController(),
      running: true,
      ...(before?.result && { result: before.result }),
    };
    slots.set(name, slot);
    // Async, so that what throws before its first await ends this slot too and leaves it not running for ever.
    const done = (async () => work(slot.abort.signal))().then(
      (value) => this.#end(key, slot, { kind: "done", value }),
      (error) => this.#end(key, slot, { kind: "failed", error, atMs: this.#now(), tries: tries + 1 }),
    );
    this.#pending.add(done);
    void done.finally(() => this.#pending.delete(done));
  }

  isRunning(key: string, name: string): boolean {
    return this.#slots.get(key)?.get(name)?.running ?? false;
  }

  result<T>(key: string, name: string): Result<T> | undefined {
    return this.#slots.get(key)?.get(name)?.result as Result<T> | undefined;
  }

  abort(key: string, name: string): void {
    this.#slots.get(key)?.get(name)?.abort.abort(new Error("no longer wanted"));
  }

  /** Aborts what runs under this key and drops every result. */
  forget(key: string): void {
    for (const slot of this.#slots.get(key)?.values() ?? []) slot.abort.abort(new Error("no longer wanted"));
    this.#slots.delete(key);
  }

  /** For a graceful stop: aborts everything and waits for it. */
  async stop(): Promise<void> {
    for (const key of [...this.#slots.keys()]) this.forget(key);
    await Promise.allSettled(this.#pending);
  }

  #end(key: string, slot: Slot, result: Result<unknown>): void {
    slot.running = false;
    // What an earlier try met says more than that this one was aborted.
    const isNews = result.kind === "done" || !slot.abort.signal.aborted || slot.result === undefined;
    if (isNews) slot.result = result;
    // What was forgotten meanwhile wakes nobody.
    if ([...(this.#slots.get(key)?.values() ?? [])].includes(slot)) this.#wake(key);
  }
}
