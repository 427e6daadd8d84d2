/** Peers in virtual environments of their own, in the cache: installed from PyPI once, at the versions that the figures name. */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

export const PEERS = {
  flower: { title: "Flower 1.42.0", packages: ["flwr==1.42.0", "numpy==2.4.6"] },
  nvflare: { title: "NVIDIA FLARE 2.9.0", packages: ["nvflare==2.9.0", "numpy==2.4.6"] },
} as const;

/** @returns the environment's bin folder */
export async function peerEnvironment(peer: keyof typeof PEERS): Promise<string> {
  const cache = process.env.RONDO_CACHE ?? join(homedir(), ".cache/rondo");
  const { packages, title } = PEERS[peer];
  // The versions are part of the name: another version is another environment.
  const folder = join(cache, "peers", packages.join("-").replaceAll("==", "-"));
  if (!existsSync(join(folder, "complete"))) {
    console.log(`Installing ${title} from PyPI into the cache …`);
    await rm(folder, { recursive: true, force: true });
    await mkdir(join(cache, "peers"), { recursive: true });
    await run("python3", ["-m", "venv", folder]);
    await run(join(folder, "bin/pip"), ["install", "--quiet", ...packages], { maxBuffer: 64 << 20 });
    await mkdir(join(folder, "complete.part"));
    await rename(join(folder, "complete.part"), join(folder, "complete"));
  }
  return join(folder, "bin");
}
