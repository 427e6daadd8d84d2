/**
 * A local copy of the objects of one kind, kept up to date by list and watch, after client-go's reflector.
 * Holds: it never gives up. A watch that breaks is resumed from its last resourceVersion; one that cannot be resumed (410, any
 *   ERROR event, "too large resource version") is followed by a new list; a list also comes every relistMs, whatever the watch
 *   says. An object deleted and created again under its name is reported as deleted first. A handler's exception is
 *   logged and counted, and the others go on.
 * Does not: keep managedFields, nor what `keep` leaves away; let anybody change an object (they are shared: treat them as read-only).
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { CACHE_TIMING, type CacheTiming, WatchBackoff } from "./cache-timing.ts";
import type { KubeClient } from "./client.ts";
import { isKubeFault } from "./faults.ts";
import type { CacheEvent, KubeMetrics } from "./metrics.ts";
import { type KubeObject, keyOf, type Ref, type ResourceKind, refKey } from "./objects.ts";
import { isOlder } from "./resource-version.ts";

/**
 * The object as it is now, or undefined when it is gone; and as this cache had it before, or undefined when it did not.
 * Only enqueue here: the watch waits meanwhile.
 */
export type ChangeHandler<T> = (key: string, object: T | undefined, before: T | undefined) => void;

export type WatchCacheOptions<T extends KubeObject> = {
  client: KubeClient;
  kind: ResourceKind<T>;
  log: Logger;
  /** Absent: all namespaces. */
  namespace?: string;
  labelSelector?: string;
  fieldSelector?: string;
  /** What of an object is kept, where nobody reads all of it; it may change the object that it is given. */
  keep?: (object: T) => T;
  metrics?: KubeMetrics;
  timing?: Partial<CacheTiming>;
};

/**
 * A round of 200 participants has 100 kB with its managedFields: 500 of them would be one answer of 50 MB, parsed in one piece. A list of 1,000
 * objects is fifty requests, at the start and every relistMs.
 */
const PAGE_SIZE = 20;

export class WatchCache<T extends KubeObject> {
  readonly kind: ResourceKind<T>;
  /** What happened so far; the same as rondo_kube_cache_events_total. */
  readonly counts: Record<CacheEvent, number> = {
    relist: 0,
    reconnect: 0,
    gone: 0,
    silence: 0,
    missed: 0,
    handlerFault: 0,
  };
  readonly #options: WatchCacheOptions<T>;
  readonly #timing: CacheTiming;
  readonly #kept: (object: T) => T;
  readonly #objects = new Map<string, T>();
  readonly #handlers = new Set<ChangeHandler<T>>();
  readonly #stop = new AbortController();
  readonly #firstList = Promise.withResolvers<void>();
  #isSynced = false;
  #listedAt = 0;
  #isListing = false;
  /** How far the watch has come; undefined: the next thing to do is a list. */
  #resourceVersion: string | undefined;
  #loop: Promise<void> | undefined;

  constructor(options: WatchCacheOptions<T>) {
    this.kind = options.kind;
    this.#options = options;
    this.#timing = { ...CACHE_TIMING, ...options.timing };
    const { keep } = options;
    this.#kept = keep ? (object) => keep(withoutManagedFields(object)) : withoutManagedFields;
  }

  start(): void {
    this.#loop ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  /** The first list has arrived. Stays true while the API server is away: the copy is then old, not wrong. */
  synced(): boolean {
    return this.#isSynced;
  }

  whenSynced(): Promise<void> {
    return this.#firstList.promise;
  }

  /** @param at  a key ("namespace/name") or a reference */
  get(at: string | Ref): T | undefined {
    return this.#objects.get(typeof at === "string" ? at : refKey(at));
  }

  list(matches: (object: T) => boolean = () => true): T[] {
    return [...this.#objects.values()].filter(matches);
  }

  /** Also called at once for each object that is there already. Returns what takes the handler off. */
  onChange(handler: ChangeHandler<T>): () => void {
    this.#handlers.add(handler);
    for (const [key, object] of this.#objects) this.#call(handler, key, object, undefined);
    return () => this.#handlers.delete(handler);
  }

  /**
   * What a write just returned, so that the next reconcile does not see a world older than its own deeds.
   * Ignored when the watch has come as far: then it has told that, and perhaps already the deletion.
   */
  put(object: T): void {
    const { resourceVersion } = object.metadata;
    if (!this.#resourceVersion || !resourceVersion || !isOlder(this.#resourceVersion, resourceVersion)) return;
    // A list on its way may not have it, and would report it as deleted.
    if (!this.#isListing) this.#set(this.#kept(object));
  }

  async #run(): Promise<void> {
    const backoff = new WatchBackoff(this.#timing);
    while (!this.#stop.signal.aborted) {
      const startedAt = performance.now();
      try {
        const isListOld = startedAt - this.#listedAt >= this.#timing.relistMs;
        if (this.#resourceVersion === undefined || isListOld) await this.#relist();
        const events = await this.#watch();
        // A server (or something before it) that ends watches at once would be asked without pause.
        if (events > 0 || performance.now() - startedAt >= 1_000) continue;
      } catch (error) {
        if (this.#stop.signal.aborted) break;
        this.#note(error);
      }
      const waitMs = backoff.next(performance.now() - startedAt);
      await sleep(waitMs, undefined, { signal: this.#stop.signal }).catch(() => undefined);
    }
  }

  async #relist(): Promise<void> {
    const { client, kind, namespace, labelSelector, fieldSelector } = this.#options;
    const watchedTo = this.#resourceVersion;
    this.#happened("relist");
    this.#isListing = true;
    const list = await client
      .list(kind, {
        ...(namespace === undefined ? {} : { namespace }),
        ...(labelSelector === undefined ? {} : { labelSelector }),
        ...(fieldSelector === undefined ? {} : { fieldSelector }),
        pageSize: PAGE_SIZE,
        keep: this.#kept,
        timeoutMs: 60_000,
        signal: this.#stop.signal,
      })
      .finally(() => {
        this.#isListing = false;
      });
    const gone = new Set(this.#objects.keys());
    for (const item of list.items) {
      gone.delete(keyOf(item));
      // Taken even if its version is lower than ours: after etcd was restored from a backup all versions are.
      const isNews = this.#set(item);
      // The watch claimed to be past this version and had not told it: never seen, and to be seen in the metrics if it ever is.
      if (isNews && watchedTo && !isOlder(watchedTo, versionOf(item))) this.#happened("missed");
    }
    for (const key of gone) this.#remove(key);
    this.#resourceVersion = list.resourceVersion;
    this.#listedAt = performance.now();
    this.#options.metrics?.cache.size(kind.kind, this.#objects.size);
    if (this.#isSynced) return;
    this.#isSynced = true;
    this.#firstList.resolve();
  }

  /** @returns the number of events, bookmarks included, when the server ended the watch in good order */
  async #watch(): Promise<number> {
    const { client, kind, namespace, labelSelector, fieldSelector } = this.#options;
    const [least, most] = this.#timing.watchSeconds;
    this.#happened("reconnect");
    let events = 0;
    const watch = client.watch(kind, {
      resourceVersion: this.#resourceVersion ?? "",
      ...(namespace === undefined ? {} : { namespace }),
      ...(labelSelector === undefined ? {} : { labelSelector }),
      ...(fieldSelector === undefined ? {} : { fieldSelector }),
      // Spread, so that not all watches of all processes are renewed in the same second. Math.random: jitter only.
      timeoutSeconds: Math.round(least + (most - least) * Math.random()),
      silenceMs: this.#timing.silenceMs,
      signal: this.#stop.signal,
    });
    for await (const event of watch) {
      events++;
      if (event.type === "DELETED") this.#remove(keyOf(event.object));
      else if (event.type !== "BOOKMARK") this.#update(this.#kept(event.object));
      this.#resourceVersion = event.object.metadata.resourceVersion ?? this.#resourceVersion;
      if (event.type !== "BOOKMARK") this.#options.metrics?.cache.size(kind.kind, this.#objects.size);
    }
    return events;
  }

  /** Decides whether the watch can be resumed. */
  #note(error: unknown): void {
    const canResume = isKubeFault(error, "Unreachable", "Timeout", "TooManyRequests", "Unauthorized");
    if (!canResume) this.#resourceVersion = undefined;
    if (isKubeFault(error, "Gone")) this.#happened("gone");
    if (isKubeFault(error, "Timeout")) this.#happened("silence");
    const fields = { kind: this.kind.kind, err: error, next: canResume ? "watch" : "list" };
    if (isKubeFault(error, "Gone", "Unreachable", "Timeout")) this.#options.log.info(fields, "watch broke");
    else this.#options.log.warn(fields, "watch failed");
  }

  /** From a watch: what is older than what put() brought is old news. */
  #update(object: T): void {
    const known = this.#objects.get(keyOf(object));
    const isSame = known !== undefined && known.metadata.uid === object.metadata.uid;
    const isStale = isSame && isOlder(versionOf(object), versionOf(known));
    if (!isStale) this.#set(object);
  }

  /** @returns whether that was news */
  #set(object: T): boolean {
    const key = keyOf(object);
    const known = this.#objects.get(key);
    if (known && known.metadata.uid !== object.metadata.uid) this.#remove(key);
    else if (known && versionOf(known) === versionOf(object)) return false;
    const before = this.#objects.get(key);
    this.#objects.set(key, object);
    for (const handler of this.#handlers) this.#call(handler, key, object, before);
    return true;
  }

  #remove(key: string): void {
    const before = this.#objects.get(key);
    if (!this.#objects.delete(key)) return;
    for (const handler of this.#handlers) this.#call(handler, key, undefined, before);
  }

  #call(handler: ChangeHandler<T>, key: string, object: T | undefined, before: T | undefined): void {
    const failed = (error: unknown) => {
      this.#happened("handlerFault");
      this.#options.log.error({ kind: this.kind.kind, key, err: error }, "a change handler failed");
    };
    try {
      // An async function passes as a handler, and its rejection would end the process.
      const result: unknown = handler(key, object, before);
      if (result instanceof Promise) result.catch(failed);
    } catch (error) {
      failed(error);
    }
  }

  #happened(event: CacheEvent): void {
    this.counts[event]++;
    this.#options.metrics?.cache.happened(this.kind.kind, event);
  }
}

function versionOf(object: KubeObject): string {
  return object.metadata.resourceVersion ?? "";
}

/** They are often most of an object, and nobody here reads them. */
function withoutManagedFields<T extends KubeObject>(object: T): T {
  delete (object.metadata as { managedFields?: unknown }).managedFields;
  return object;
}
