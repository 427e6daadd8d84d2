/**
 * Who holds the operator's Lease: the volume, not the pod. The journal lies on it and is locked by whoever has it open, so a process that
 * finds the volume's name in the Lease is its own predecessor's heir and need not wait for it to expire.
 */
import { randomUUID } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { effect } from "../fault-injection.ts";

export async function leaseIdentity(dataDir: string): Promise<string> {
  const file = join(dataDir, "instance");
  const known = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
    return undefined;
  });
  const id = known?.trim() || randomUUID();
  if (!known) {
    await writeFile(file, `${id}\n`, { mode: 0o600 });
    effect("file", "write the volume's name");
  }
  return `${hostname()}_${id}`;
}
