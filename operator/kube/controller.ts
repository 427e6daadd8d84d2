/**
 * Workers that reconcile the keys of a queue.
 *
 * The contract of a reconcile function: it gets a key, reads the world anew, and may be called at any time and any number of
 * times. It returns
 *   DONE            nothing to do until something changes; the key's backoff is forgotten
 *   again(afterMs)  look again then; not a failure, the backoff is forgotten too
 * or throws, and is then called again with backoff. A KubeFault "Conflict" is a stale read and is quiet. What cannot be helped
 * by another try belongs into status, followed by DONE.
 * Holds: one key is never reconciled twice at the same time, not even after a timeout.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { startDeadline } from "./deadline.ts";
import { isKubeFault } from "./faults.ts";
import type { KubeMetrics } from "./metrics.ts";
import { WorkQueue } from "./queue.ts";

export type Result = { kind: "done" } | { kind: "again"; afterMs: number };

export const DONE: Result = { kind: "done" };

export function again(afterMs: number): Result {
  return { kind: "again", afterMs };
}

/** @param signal  aborted when the reconcile outruns its time, or the process stops and its grace is over */
export type Reconcile = (key: string, signal: AbortSignal) => Promise<Result>;

export type ControllerOptions = {
  name: string;
  reconcile: Reconcile;
  log: Logger;
  /** Keys reconciled at the same time. Default 2. */
  workers?: number;
  /** Default 60 s: a reconcile is a handful of API calls of 10 s at most. */
  timeoutMs?: number;
  metrics?: KubeMetrics;
  baseDelayMs?: number;
  maxDelayMs?: number;
};

/** What a reconcile may still take after its signal was aborted before its worker goes on without it. */
const ABANDON_MS = 5_000;

export class Controller {
  readonly name: string;
  readonly #options: ControllerOptions;
  readonly #queue: WorkQueue;
  readonly #stop = new AbortController();
  readonly #workers: Promise<void>[] = [];
  #active = 0;

  constructor(options: ControllerOptions) {
    this.name = options.name;
    this.#options = options;
    this.#queue = new WorkQueue({
      name: options.name,
      ...(options.metrics ? { metrics: options.metrics.queue } : {}),
      ...(options.baseDelayMs === undefined ? {} : { baseDelayMs: options.baseDelayMs }),
      ...(options.maxDelayMs === undefined ? {} : { maxDelayMs: options.maxDelayMs }),
    });
  }

  /** Safe at any time, before start as well: caches' change handlers call nothing else. */
  enqueue(key: string, afterMs = 0): void {
    this.#queue.addAfter(key, afterMs);
  }

  start(): void {
    const { workers = 2 } = this.#options;
    for (let worker = 0; worker < workers; worker++) this.#workers.push(this.#work());
  }

  /** Takes no more keys and waits for the running reconciles; after graceMs their signals are aborted. */
  async stop(graceMs = 20_000): Promise<void> {
    const drained = Promise.all([this.#queue.shutDown(), ...this.#workers]);
    const patience = new AbortController();
    const timer = sleep(graceMs, "late", { signal: patience.signal, ref: false }).catch(() => "stopped");
    if ((await Promise.race([drained, timer])) === "late") {
      this.#stop.abort(new Error("the process stops"));
      await Promise.race([drained, sleep(ABANDON_MS, undefined, { ref: false })]);
    }
    patience.abort();
  }

  async #work(): Promise<void> {
    for (;;) {
      const key = await this.#queue.take();
      if (key === undefined) return;
      await this.#reconcileInTime(key);
    }
  }

  async #reconcileInTime(key: string): Promise<void> {
    const { timeoutMs = 60_000, log, metrics } = this.#options;
    const abandoned = Promise.withResolvers<void>();
    const deadline = startDeadline(timeoutMs, this.#stop.signal, () => {
      metrics?.controller.timedOut(this.name);
      log.error({ controller: this.name, key, timeoutMs }, "reconcile outran its time");
      // Deaf to its signal, a reconcile keeps its key but not its worker: one stuck key must not stop the others.
      setTimeout(abandoned.resolve, ABANDON_MS).unref();
    });
    const settled = this.#reconcile(key, deadline.signal).finally(deadline.end);
    await Promise.race([settled, abandoned.promise]);
  }

  /** Never throws. */
  async #reconcile(key: string, signal: AbortSignal): Promise<void> {
    const { reconcile, metrics } = this.#options;
    const startedAt = performance.now();
    const seconds = () => (performance.now() - startedAt) / 1000;
    metrics?.controller.active(this.name, ++this.#active);
    try {
      const result = await reconcile(key, signal);
      this.#queue.forget(key);
      if (result.kind === "again") this.#queue.addAfter(key, result.afterMs);
      metrics?.controller.reconciled(this.name, result.kind === "again" ? "requeue_after" : "success", seconds());
    } catch (error) {
      this.#failed(key, error, seconds());
    } finally {
      metrics?.controller.active(this.name, --this.#active);
      this.#queue.done(key);
    }
  }

  #failed(key: string, error: unknown, seconds: number): void {
    const { log, metrics } = this.#options;
    const isConflict = isKubeFault(error, "Conflict");
    metrics?.controller.reconciled(this.name, isConflict ? "conflict" : "error", seconds);
    const fields = { controller: this.name, key, err: error, failures: this.#queue.failures(key) + 1 };
    if (isConflict) log.debug(fields, "reconcile met a conflict, trying again");
    else log.error(fields, "reconcile failed, trying again");
    this.#queue.addRateLimited(key);
  }
}
