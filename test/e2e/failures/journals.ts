/** What a running program's journal holds: what an agent remembers of its sessions is in no status and no log. */
import { copyFileSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { DatabaseSync } from "node:sqlite";

/**
 * The values of one space, by key. The journal is held by its program alone, so that a copy is read; one that was torn by a commit is
 * no database, or has no such values, and the caller looks again.
 */
export function journalled(file: string, space: string): Map<string, unknown> {
  const rows = rowsOf(file, space);
  return new Map(rows.map(({ key, value }) => [String(key), JSON.parse(Buffer.from(value as Uint8Array).toString())]));
}

/** Also of a space whose values are no JSON. */
export function journalledKeys(file: string, space: string): string[] {
  return rowsOf(file, space).map(({ key }) => String(key));
}

function rowsOf(file: string, space: string): Array<Record<string, unknown>> {
  const folder = mkdtempSync(join(tmpdir(), "rondo-e2e-journal-"));
  try {
    const copy = join(folder, basename(file));
    // The log first: what it holds is laid over the file, whatever of it the file has by now.
    for (const suffix of ["-wal", ""]) if (existsSync(file + suffix)) copyFileSync(file + suffix, copy + suffix);
    const database = new DatabaseSync(copy);
    try {
      return database.prepare("SELECT key, value FROM entry WHERE space = ?").all(space);
    } finally {
      database.close();
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}
