/** Checks for /healthz and /readyz (telemetry/health.ts): undefined when well, else a sentence. */
import type { WatchCache } from "./cache.ts";
import type { Lease } from "./lease.ts";
import type { KubeObject } from "./objects.ts";

/** Ready: nothing is decided on half a picture. */
export function cachesSynced(
  caches: readonly Pick<WatchCache<KubeObject>, "synced" | "kind">[],
): () => string | undefined {
  return () => {
    const waiting = caches.filter((cache) => !cache.synced()).map((cache) => cache.kind.plural);
    return waiting.length === 0 ? undefined : `waiting for the first list of ${waiting.join(", ")}`;
  };
}

export function leaseHeld(lease: Pick<Lease, "held">, name: string): () => string | undefined {
  return () => (lease.held() ? undefined : `lease ${name} is not held`);
}
