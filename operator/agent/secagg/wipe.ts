/** Overwrites the secrets of a session's state in memory once the next state has what it needs of them. */
import type { ParticipantState } from "../../secagg/participant/state.ts";

/**
 * @param before  loses every secret that `after` does not hold as the very same bytes
 * @param after   undefined: the session has ended
 */
export function wipe(before: ParticipantState | undefined, after: ParticipantState | undefined): void {
  if (!before || !("secrets" in before)) return;
  const needed = new Set(bytesIn(after));
  for (const secret of bytesIn(before.secrets)) if (!needed.has(secret)) secret.fill(0);
}

function bytesIn(value: unknown): Uint8Array[] {
  if (value instanceof Uint8Array) return [value];
  if (typeof value !== "object" || value === null) return [];
  return Object.values(value).flatMap(bytesIn);
}
