/** One `up` or `down` of a set at a time. The lock names its holder, so that one left by a killed program does not hold forever. */
import { linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { delay } from "./commands.ts";
import type { ClusterSet } from "./layout.ts";
import { startTicks } from "./processes.ts";

export async function withSetLocked<T>(set: ClusterSet, work: () => Promise<T>): Promise<T> {
  const path = `${set.runDir}.lock`;
  mkdirSync(join(path, ".."), { recursive: true });
  const mine = `${process.pid} ${startTicks(process.pid)}`;
  while (!take(path, mine)) await delay(200);
  try {
    return await work();
  } finally {
    rmSync(path, { force: true });
  }
}

function take(path: string, mine: string): boolean {
  const draft = `${path}.${process.pid}`;
  writeFileSync(draft, mine);
  try {
    linkSync(draft, path); // appears with its content or not at all
    return true;
  } catch {
    const [pid = "", ticks = ""] = holder(path).split(" ");
    if (startTicks(Number(pid)) !== ticks) rmSync(path, { force: true });
    return false;
  } finally {
    rmSync(draft, { force: true });
  }
}

function holder(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
