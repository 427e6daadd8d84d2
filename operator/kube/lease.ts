/**
 * A coordination.k8s.io Lease that at most one process holds: leader election for the operator, a fence for the agent.
 * Holds: whether another holder's lease has expired is judged by how long *we* have seen it unchanged, never by comparing clocks;
 *   held() is false as soon as renewMs have passed since a renewal was sent, even if the process slept through it,
 *   and renewMs < leaseMs, so that we stop before anybody may begin.
 * Does not: make effects outside Kubernetes exactly-once; those compare `epoch`, or have deterministic names.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import type { KubeClient } from "./client.ts";
import { isKubeFault } from "./faults.ts";
import type { KubeMetrics } from "./metrics.ts";
import { type KubeLease, LEASES } from "./resources.ts";

export type LeaseTiming = {
  /** Others wait this long after the last renewal they saw. */
  leaseMs: number;
  /** We give up this long after our last renewal. */
  renewMs: number;
  retryMs: number;
};

/** controller-runtime's. */
export const LEASE_TIMING: LeaseTiming = { leaseMs: 15_000, renewMs: 10_000, retryMs: 2_000 };

export type LeaseOptions = {
  client: KubeClient;
  namespace: string;
  name: string;
  /**
   * Who we are. Pod name and pod uid: a container that is restarted in the same pod goes on at once instead of waiting for
   * itself, and kubelet never runs two of one pod.
   */
  identity: string;
  /** Called once if the lease is lost. The process must end: what it began may no longer be its own. */
  onLost: (why: string) => void;
  log: Logger;
  timing?: LeaseTiming;
  metrics?: KubeMetrics;
  /** Milliseconds of a clock that never jumps. */
  now?: () => number;
};

export class Lease {
  readonly #options: LeaseOptions;
  readonly #timing: LeaseTiming;
  readonly #now: () => number;
  readonly #stop = new AbortController();
  /** The lease as last read or written, and when we first saw it so. */
  #seen: { lease: KubeLease; at: number } | undefined;
  #renewedAt = Number.NEGATIVE_INFINITY;
  #epoch = -1;
  #renewing: Promise<void> | undefined;

  constructor(options: LeaseOptions) {
    this.#options = options;
    this.#timing = options.timing ?? LEASE_TIMING;
    this.#now = options.now ?? (() => performance.now());
    options.metrics?.lease.isMaster(options.name, false);
  }

  /** Resolves when the lease is ours, and renews it from then on. Rejects only when the signal is aborted. */
  async acquire(signal?: AbortSignal): Promise<void> {
    const { log, name, identity, metrics } = this.#options;
    const stop = signal ? AbortSignal.any([signal, this.#stop.signal]) : this.#stop.signal;
    for (let saidWaiting = false; !(await this.#try()); saidWaiting = true) {
      const holder = this.#seen?.lease.spec?.holderIdentity;
      if (!saidWaiting) log.info({ lease: name, holder }, "waiting for the lease");
      stop.throwIfAborted();
      // Jitter, so that candidates do not meet at the API server again and again.
      await sleep(this.#timing.retryMs * (0.6 + 0.8 * Math.random()), undefined, { signal: stop });
    }
    log.info({ lease: name, identity, epoch: this.#epoch }, "lease acquired");
    metrics?.lease.isMaster(name, true);
    this.#renewing = this.#renew();
  }

  held(): boolean {
    return this.#now() - this.#renewedAt < this.#timing.renewMs;
  }

  /** Grows with each holder, and with each process of one holder: of two writers the one with the lower epoch is the stale one. */
  get epoch(): number {
    return this.#epoch;
  }

  /** For a graceful stop, after the work has ended: the next holder need not wait. */
  async release(): Promise<void> {
    const { client, metrics, name } = this.#options;
    const wasHeld = this.held();
    this.#stop.abort();
    await this.#renewing;
    metrics?.lease.isMaster(name, false);
    if (!wasHeld || !this.#seen) return;
    this.#renewedAt = Number.NEGATIVE_INFINITY;
    const { resourceVersion } = this.#seen.lease.metadata;
    const spec = { holderIdentity: "", leaseDurationSeconds: 1, renewTime: microTime() };
    // When this fails, the lease expires by itself.
    await client.patchMerge(LEASES, this.#ref(), { metadata: { resourceVersion }, spec }).catch((error: unknown) => {
      this.#options.log.info({ lease: name, err: error }, "lease not released, it will expire");
    });
  }

  async #renew(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      await sleep(this.#timing.retryMs, undefined, { signal: this.#stop.signal }).catch(() => undefined);
      if (this.#stop.signal.aborted) return;
      // Before trying: a process that slept must not take back what it was already too late for.
      if (!this.held()) return this.#lost("not renewed in time");
      const isOurs = await this.#try();
      if (!isOurs && this.#isSomeoneElses()) return this.#lost("taken over by another holder");
      if (!isOurs && this.#isSuccessors()) return this.#lost("taken over by a newer process of this holder");
      if (!isOurs && !this.held()) return this.#lost("not renewed in time");
    }
  }

  #lost(why: string): void {
    const { log, name, metrics, onLost } = this.#options;
    this.#renewedAt = Number.NEGATIVE_INFINITY;
    this.#stop.abort();
    metrics?.lease.isMaster(name, false);
    log.error({ lease: name, why }, "lease lost");
    onLost(why);
  }

  /** One attempt to take or renew. Never throws: an API server that is away is a failed attempt. */
  async #try(): Promise<boolean> {
    const sentAt = this.#now();
    try {
      const isRenewal = this.#renewing !== undefined;
      if (!isRenewal || !this.#seen) await this.#look();
      if (this.#isSomeoneElses() && !this.#hasExpired()) return false;
      if (isRenewal && this.#isSuccessors()) return false;
      const written = await this.#write(isRenewal);
      this.#see(written);
      this.#renewedAt = sentAt;
      this.#epoch = written.spec?.leaseTransitions ?? 0;
      return true;
    } catch (error) {
      if (isKubeFault(error, "Conflict", "AlreadyExists")) {
        // Somebody else wrote; look who before the next attempt.
        await this.#look().catch(() => undefined);
      } else {
        this.#options.log.warn({ lease: this.#options.name, err: error }, "lease not renewed");
      }
      return false;
    }
  }

  async #look(): Promise<void> {
    const timeoutMs = this.#timing.renewMs / 2;
    const lease = await this.#options.client.get(LEASES, this.#ref(), { timeoutMs });
    if (lease) this.#see(lease);
    else this.#seen = undefined;
  }

  /** The clock of an unchanged lease goes on. */
  #see(lease: KubeLease): void {
    if (this.#seen?.lease.metadata.resourceVersion === lease.metadata.resourceVersion) return;
    this.#seen = { lease, at: this.#now() };
  }

  #isSomeoneElses(): boolean {
    const holder = this.#seen?.lease.spec?.holderIdentity;
    return Boolean(holder) && holder !== this.#options.identity;
  }

  /** Our name in it, but a later epoch: a process that believed us dead. */
  #isSuccessors(): boolean {
    return (this.#seen?.lease.spec?.leaseTransitions ?? 0) > this.#epoch;
  }

  #hasExpired(): boolean {
    if (!this.#seen) return true;
    const leaseMs = (this.#seen.lease.spec?.leaseDurationSeconds ?? 0) * 1000;
    return this.#now() - this.#seen.at >= leaseMs;
  }

  #write(isRenewal: boolean): Promise<KubeLease> {
    const { client, identity } = this.#options;
    const { name, namespace } = this.#ref();
    const now = microTime();
    const current = this.#seen?.lease;
    const spec = {
      holderIdentity: identity,
      leaseDurationSeconds: Math.ceil(this.#timing.leaseMs / 1000),
      renewTime: now,
      ...(isRenewal ? {} : { acquireTime: now, leaseTransitions: (current?.spec?.leaseTransitions ?? 0) + 1 }),
    };
    const call = { timeoutMs: this.#timing.renewMs / 2 };
    if (!current) return client.create(LEASES, { metadata: { name, namespace }, spec }, call);
    const { resourceVersion } = current.metadata;
    return client.patchMerge(LEASES, { name, namespace }, { metadata: { resourceVersion }, spec }, call);
  }

  #ref(): { namespace: string; name: string } {
    return { namespace: this.#options.namespace, name: this.#options.name };
  }
}

/** RFC 3339 with microseconds, which Lease insists on. */
function microTime(): string {
  return new Date().toISOString().replace("Z", "000Z");
}
