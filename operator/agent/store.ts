/**
 * What the parts of the ledger share: reading, and writing all or nothing.
 * Holds: a commit that resolves is on disk.
 */
import type { Journal, Write } from "../journal/journal.ts";

export type Store = Pick<Journal, "get" | "entries" | "commit">;

/** A value of JSON under a key. */
export function put(space: string, key: string, value: unknown): Write {
  return { put: { space, key, value: new TextEncoder().encode(JSON.stringify(value)) } };
}

export function remove(space: string, key: string): Write {
  return { remove: { space, key } };
}

export function parsed(value: Uint8Array): unknown {
  return JSON.parse(Buffer.from(value).toString("utf8"));
}
