/**
 * A durable key-value store with atomic commits: the operator's journal and the agent's ledger stand on it.
 * SQLite (node:sqlite, WAL, synchronous=FULL, secure_delete) in a worker thread of its own, because an fsync would block the event loop.
 * Holds: when commit() resolves, the writes are on disk, all of them or (after a fault or a crash) none.
 * Does not: know what is stored in it.
 */
export type Write =
  | { put: { space: string; key: string; value: Uint8Array } }
  /** Fails the whole commit with JournalFault "Exists" when the key is there already. */
  | { insert: { space: string; key: string; value: Uint8Array } }
  | { remove: { space: string; key: string } };

export interface Increment {
  /** The number is higher than this, by as many steps as that takes. @default 0 */
  above?: number;
  /** Whose number it is, written there (as decimal digits) in the same transaction: asked again, it is the same number. */
  keep?: { space: string; key: string };
}

export interface Journal {
  get(space: string, key: string): Promise<Uint8Array | undefined>;
  /** Ascending by key; `prefix` narrows. */
  entries(space: string, prefix?: string): Promise<Array<{ key: string; value: Uint8Array }>>;
  commit(writes: Write[]): Promise<void>;
  /** Durable counter: the first call gives 1; a number is never given twice. */
  increment(counter: string, options?: Increment): Promise<number>;
  close(): Promise<void>;
}

export class JournalFault extends Error {
  readonly code: "Exists" | "Closed" | "Corrupt" | "DiskFull" | "Failed";
  constructor(code: JournalFault["code"], message: string) {
    super(message);
    this.name = "JournalFault";
    this.code = code;
  }
}
