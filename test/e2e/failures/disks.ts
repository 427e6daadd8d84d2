/** Small disks under the volumes of operator and agents, so that a test can fill one up. In memory: what a test writes to them is gone with them. */
import { readFileSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { command } from "../../cluster/commands.ts";
import { writableFolder } from "../../demo/volumes.ts";

/** More than all that a test keeps at once, journals, spools and adapters together; little enough that filling it costs nobody else memory. */
const DISK_MIB = 320;
const BALLAST = "ballast";

/** A folder that pods may write, on a disk of its own. To be called before a cluster sees the folder. */
export async function smallDisk(path: string): Promise<string> {
  writableFolder(path);
  if (!mounted().includes(path)) {
    const options = `size=${DISK_MIB}m,uid=10001,gid=10001,mode=0700`;
    await command("mount", "-t", "tmpfs", "-o", options, "rondo-e2e", path);
  }
  return path;
}

/** The same disk under a second path. To be called before a cluster sees either. */
export async function secondPath(disk: string, path: string): Promise<void> {
  writableFolder(path);
  if (!mounted().includes(path)) await command("mount", "--bind", disk, path);
}

/** Leaves this many bytes, as if somebody else had written all the rest. */
export function fillDisk(path: string, freeBytes = 0): void {
  const { bavail, bsize } = statfsSync(path);
  writeFileSync(join(path, BALLAST), Buffer.alloc(Math.max(0, bavail * bsize - freeBytes), 1));
}

export function clearDisk(path: string): void {
  rmSync(join(path, BALLAST), { force: true });
}

/** All disks below a folder. */
export async function removeDisks(folder: string): Promise<void> {
  for (const path of mounted().filter((each) => each.startsWith(`${folder}/`))) await command("umount", path);
}

function mounted(): string[] {
  const lines = readFileSync("/proc/self/mountinfo", "utf8").split("\n");
  return lines.map((line) => line.split(" ")[4] ?? "").filter(Boolean);
}
