/**
 * The SQLite file of a journal, synchronous: used by worker.ts alone.
 * Holds: WAL, synchronous=FULL, secure_delete; one process at a time (exclusive lock); files are 0600; a removed value is
 * overwritten, in the write-ahead log too, before its removal is answered.
 */
import { closeSync, fsyncSync, openSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { type Increment, JournalFault, type Write } from "./journal.ts";
import type { FaultData } from "./messages.ts";

/** PRAGMA application_id: "Rndo". A foreign SQLite file is not taken for a journal. */
const APPLICATION_ID = 0x526e646f;
const SCHEMA_VERSION = 1;

// Result codes of sqlite.org/rescode.html; the extended ones carry these in their low byte.
const SQLITE_BUSY = 5;
const SQLITE_CORRUPT = 11;
const SQLITE_FULL = 13;
const SQLITE_NOTADB = 26;

export class JournalStore {
  readonly #path: string;
  readonly #database: DatabaseSync;
  readonly #statements: Statements;
  #erased = false;
  /** Why SQLite ended the open transaction by itself (disk full): whatever else was in it fails for the same reason. */
  #aborted: FaultData | undefined;

  /** @throws JournalFault "Corrupt" | "Failed", or an error of SQLite that faultOf() translates */
  constructor(path: string) {
    this.#path = path;
    createPrivate(path);
    this.#database = new DatabaseSync(path);
    try {
      configure(this.#database, path);
      this.#statements = prepare(this.#database);
    } catch (error) {
      this.#database.close();
      throw error;
    }
  }

  /** Runs `work` in one transaction; its effects are on disk when this returns undefined, and gone when it returns a fault. */
  transaction(work: () => void): FaultData | undefined {
    this.#aborted = undefined;
    try {
      this.#database.exec("BEGIN IMMEDIATE");
      work();
      if (this.#aborted) return this.#aborted;
      this.#database.exec("COMMIT");
      return undefined;
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec("ROLLBACK");
      return this.faultOf(error);
    }
  }

  /** Overwrites in the log what earlier transactions removed; to be called before their removals are answered. */
  erase(): FaultData | undefined {
    if (!this.#erased) return undefined;
    try {
      this.#database.exec("PRAGMA wal_checkpoint(TRUNCATE)");
      this.#erased = false;
      return undefined;
    } catch (error) {
      return this.faultOf(error);
    }
  }

  get(space: string, key: string): Uint8Array | undefined {
    return (this.#statements.get.get(space, key) as { value: Uint8Array } | undefined)?.value;
  }

  entries(space: string, prefix: string): Array<{ key: string; value: Uint8Array }> {
    const found = [];
    for (const row of this.#statements.range.iterate(space, prefix)) {
      const { key, value } = row as { key: string; value: Uint8Array };
      if (!key.startsWith(prefix)) break;
      found.push({ key, value });
    }
    return found;
  }

  /** All of the writes or none, inside the transaction that is open. @throws JournalFault "Exists" */
  commit(writes: Write[]): void {
    if (this.#aborted) return;
    this.#database.exec("SAVEPOINT one");
    try {
      for (const write of writes) this.#write(write);
      this.#database.exec("RELEASE one");
    } catch (error) {
      if (!this.#database.isTransaction) {
        this.#aborted = this.faultOf(error);
        return;
      }
      this.#database.exec("ROLLBACK TO one");
      this.#database.exec("RELEASE one");
      throw error;
    }
  }

  /** Inside the transaction that is open, as commit() is. */
  increment(counter: string, { above = 0, keep }: Increment = {}): number {
    if (this.#aborted) return 0;
    const kept = keep && this.get(keep.space, keep.key);
    if (kept) return Number(Buffer.from(kept).toString("utf8"));
    const { value } = this.#statements.increment.get(counter, above + 1) as { value: number };
    if (keep) this.#statements.insert.run(keep.space, keep.key, Buffer.from(String(value)));
    return value;
  }

  close(): void {
    try {
      this.#database.exec("PRAGMA wal_checkpoint(TRUNCATE)");
    } catch (error) {
      // On a full disk the log stays as it is: the next opening takes it in.
      if (this.faultOf(error).code !== "DiskFull") throw error;
    } finally {
      this.#database.close();
    }
  }

  faultOf(error: unknown): FaultData {
    return JournalStore.faultOf(error, this.#path);
  }

  static faultOf(error: unknown, path: string): FaultData {
    if (error instanceof JournalFault) return { code: error.code, message: error.message };
    const reason = error instanceof Error ? error.message : String(error);
    const primary = ((error as { errcode?: number }).errcode ?? 0) & 0xff;
    const system = (error as { code?: string }).code;
    if (primary === SQLITE_CORRUPT || primary === SQLITE_NOTADB) return corrupt(path, reason);
    if (primary === SQLITE_FULL || system === "ENOSPC") {
      return { code: "DiskFull", message: `The disk of the journal ${path} is full; nothing was written` };
    }
    if (primary === SQLITE_BUSY) {
      return { code: "Failed", message: `The journal ${path} is in use by another process` };
    }
    return { code: "Failed", message: `The journal ${path} could not be used: ${reason}` };
  }

  #write(write: Write): void {
    if ("put" in write) {
      this.#statements.put.run(write.put.space, write.put.key, write.put.value);
      return;
    }
    if ("remove" in write) {
      const { changes } = this.#statements.remove.run(write.remove.space, write.remove.key);
      if (changes > 0) this.#erased = true;
      return;
    }
    const { space, key, value } = write.insert;
    if (this.#statements.insert.run(space, key, value).changes === 0) {
      throw new JournalFault("Exists", `The journal already holds ${space}/${key}`);
    }
  }
}

function createPrivate(path: string): void {
  closeSync(openSync(path, "a", 0o600));
  // Else a crash could leave a journal whose name never reached the disk.
  const folder = openSync(dirname(path), "r");
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

function configure(database: DatabaseSync, path: string): void {
  // Exclusive before WAL: no shared-memory file, and a second process is told so instead of interleaving with this one.
  database.exec("PRAGMA locking_mode=EXCLUSIVE");
  database.exec("PRAGMA journal_mode=WAL");
  database.exec("PRAGMA synchronous=FULL");
  database.exec("PRAGMA secure_delete=ON");
  const check = database.prepare("PRAGMA quick_check(1)").get() as { quick_check: string };
  if (check.quick_check !== "ok") throw fault(corrupt(path, check.quick_check));
  // A process that was killed between a removal and its erasing has left what was removed in the log.
  database.exec("PRAGMA wal_checkpoint(TRUNCATE)");
  const id = pragma(database, "application_id");
  const version = pragma(database, "user_version");
  if (id === 0 && version === 0) {
    create(database, path);
    return;
  }
  if (id !== APPLICATION_ID) throw fault(corrupt(path, "it is a database of another program"));
  if (version !== SCHEMA_VERSION) {
    throw new JournalFault(
      "Failed",
      `The journal ${path} was written by another version of Rondo (format ${version}, expected ${SCHEMA_VERSION})`,
    );
  }
}

function create(database: DatabaseSync, path: string): void {
  const tables = database.prepare("SELECT count(*) AS n FROM sqlite_schema").get() as { n: number };
  if (tables.n > 0) throw fault(corrupt(path, "it is a database of another program"));
  database.exec(`
    BEGIN IMMEDIATE;
    CREATE TABLE entry (space TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (space, key)) WITHOUT ROWID;
    CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    PRAGMA application_id=${APPLICATION_ID};
    PRAGMA user_version=${SCHEMA_VERSION};
    COMMIT;`);
}

type Statements = Record<"get" | "put" | "insert" | "remove" | "range" | "increment", StatementSync>;

function prepare(database: DatabaseSync): Statements {
  return {
    get: database.prepare("SELECT value FROM entry WHERE space = ? AND key = ?"),
    put: database.prepare(
      "INSERT INTO entry (space, key, value) VALUES (?, ?, ?) ON CONFLICT (space, key) DO UPDATE SET value = excluded.value",
    ),
    insert: database.prepare("INSERT INTO entry (space, key, value) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"),
    remove: database.prepare("DELETE FROM entry WHERE space = ? AND key = ?"),
    // Binary collation: every key that begins with the prefix is >= it, and they lie together.
    range: database.prepare("SELECT key, value FROM entry WHERE space = ?1 AND key >= ?2 ORDER BY key"),
    increment: database.prepare(
      "INSERT INTO counter (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = max(value + 1, ?2) RETURNING value",
    ),
  };
}

function pragma(database: DatabaseSync, name: string): number {
  return Number(Object.values(database.prepare(`PRAGMA ${name}`).get() as Record<string, number>)[0]);
}

function corrupt(path: string, reason: string): FaultData {
  return {
    code: "Corrupt",
    message: `The journal ${path} is damaged (${reason}); restore the volume from a backup or move the file away`,
  };
}

function fault(data: FaultData): JournalFault {
  return new JournalFault(data.code, data.message);
}
