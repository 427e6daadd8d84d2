/**
 * A file system of a few MiB, which a test can fill: a tmpfs, mounted for the length of the test. Needs root, as the clusters of
 * test/cluster do.
 */
import { execFile } from "node:child_process";
import { mkdtemp, rm, statfs, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

export interface SmallDisk {
  folder: string;
  freeBytes(): Promise<number>;
  /** Leaves this much. */
  fill(keptBytes?: number): Promise<void>;
  /** Takes away what fill() has put there. */
  empty(): Promise<void>;
  unmount(): Promise<void>;
}

export async function smallDisk(mebibytes: number): Promise<SmallDisk> {
  const folder = await mkdtemp(join(tmpdir(), "rondo-small-disk-"));
  await run("mount", ["-t", "tmpfs", "-o", `size=${mebibytes}m`, "tmpfs", folder]);
  const ballast = join(folder, "ballast");
  const freeBytes = async () => {
    const { bavail, bsize } = await statfs(folder);
    return bavail * bsize;
  };
  return {
    folder,
    freeBytes,
    async fill(keptBytes = 0) {
      const bytes = Math.max(0, (await freeBytes()) - keptBytes);
      // Whoever else writes at the same moment has taken the rest.
      await writeFile(ballast, new Uint8Array(bytes), { flag: "a" }).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== "ENOSPC") throw error;
      });
    },
    empty: () => rm(ballast, { force: true }),
    async unmount() {
      await run("umount", ["--lazy", folder]);
      await rm(folder, { recursive: true });
    },
  };
}
