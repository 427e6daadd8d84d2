/**
 * Files that a crash or a lost ledger left in the agent's work folder: folders of no living assignment (an evaluation that nobody waits for any
 * more, a round of another ledger) and the beginnings of files whose writer is gone.
 * Holds: what a living assignment can use stays: whole files, and a download, which goes on where it was.
 */
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { effect } from "../fault-injection.ts";

/** A file appears under its name whole; until then it is called after it. */
const BEGINNINGS = [".part", ".partial"];
const DOWNLOAD = "parent.safetensors.partial";

/**
 * At start, before anything is written.
 * @param living  names of the folders that are somebody's
 * @returns what was removed, relative to the work folder
 */
export async function removeLeftovers(workDir: string, living: ReadonlySet<string>): Promise<string[]> {
  const removed = (await readdir(workDir)).filter((name) => !living.has(name));
  for (const folder of living) {
    const names = await readdir(join(workDir, folder)).catch(() => []);
    removed.push(...names.filter(isBeginning).map((name) => join(folder, name)));
  }
  await Promise.all(removed.map((name) => rm(join(workDir, name), { recursive: true, force: true })));
  if (removed.length > 0) effect("file", `remove ${removed.length} leftovers`);
  return removed;
}

function isBeginning(name: string): boolean {
  return name !== DOWNLOAD && BEGINNINGS.some((ending) => name.endsWith(ending));
}
