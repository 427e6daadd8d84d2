/**
 * A containerd root that has all images of <cache>/images unpacked, made once per state of that folder. A new cluster gets hard links to it
 * instead of an import: seconds of processor time and hundreds of megabytes less per cluster, and one copy in the page cache for all.
 * Holds: layers and blobs are never written to after they are complete (a container's writes go to a layer of its own), so they can be
 * shared; the databases that name them are copied.
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { command, delay, succeeds } from "./commands.ts";
import { archiveStamp, rememberLoaded } from "./images.ts";
import { type Cluster, cacheDir, imagesDir } from "./layout.ts";
import { snapshotterOn } from "./node.ts";

const SEEDS = join(cacheDir, "seeds");

/** @returns the folder of the seed that fits to the archives as they are, made now if need be */
export async function ensureSeed(): Promise<string> {
  const archives = seedArchives();
  const identity = archives.map((archive) => `${archive} ${archiveStamp(archive)}\n`).join("");
  const seed = join(SEEDS, createHash("sha256").update(identity).digest("hex").slice(0, 16));
  if (existsSync(seed)) return seed;
  mkdirSync(SEEDS, { recursive: true });
  const draft = mkdtempSync(`${seed}.new-`);
  try {
    await importAll(draft, archives);
    for (const old of readdirSync(SEEDS)) {
      if (/^[0-9a-f]{16}$/.test(old)) rmSync(join(SEEDS, old), { recursive: true, force: true }); // clusters keep their links
    }
    renameSync(draft, seed);
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
  return seed;
}

/** Gives a cluster without images those of the seed. Without effect where hard links cannot reach (another file system): they are imported then. */
export async function plantSeed(cluster: Cluster, seed: string): Promise<void> {
  const root = join(cluster.stateDir, "containerd");
  const draft = `${root}.new`;
  rmSync(draft, { recursive: true, force: true });
  try {
    await command("cp", "-al", seed, draft);
    for (const database of databasesBelow(draft)) {
      await command("cp", database, `${database}.own`);
      renameSync(`${database}.own`, database);
    }
  } catch {
    rmSync(draft, { recursive: true, force: true });
    return;
  }
  renameSync(draft, root);
  for (const archive of seedArchives()) rememberLoaded(cluster, archive);
}

export function seedArchives(): string[] {
  return readdirSync(imagesDir)
    .filter((file) => file.endsWith(".tar"))
    .sort()
    .map((file) => join(imagesDir, file));
}

/** Without CRI, network and pods: a containerd for the import alone, which dies with us and takes its mounts along. */
async function importAll(root: string, archives: string[]): Promise<void> {
  const run = mkdtempSync(join(tmpdir(), "rondo-seed-"));
  const socket = join(run, "containerd.sock");
  const config = join(run, "containerd.toml");
  writeFileSync(
    config,
    `version = 2
root = "${root}"
state = "${join(run, "state")}"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
  address = "${socket}"
`,
  );
  const isolated = ["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"];
  const containerd = spawn("setpriv", [...isolated, "containerd", "--config", config], { stdio: "ignore" });
  const ended = new Promise<void>((resolve) => containerd.once("exit", () => resolve()));
  try {
    const ctr = ["--connect-timeout=1s", "--address", socket, "--namespace=k8s.io"];
    for (const until = Date.now() + 30_000; !(await succeeds("ctr", ...ctr, "version")); await delay(100)) {
      if (Date.now() > until || containerd.exitCode !== null)
        throw new Error("containerd does not start to unpack the images");
    }
    const snapshotter = snapshotterOn(root);
    for (const archive of archives) {
      await command("ctr", ...ctr, "images", "import", "--digests=false", `--snapshotter=${snapshotter}`, archive);
    }
  } finally {
    containerd.kill("SIGTERM");
    await ended;
    rmSync(run, { recursive: true, force: true });
  }
}

function databasesBelow(dir: string): string[] {
  return readdirSync(dir)
    .map((name) => join(dir, name))
    .filter((path) => statSync(path).isDirectory())
    .flatMap((plugin) => readdirSync(plugin).map((name) => join(plugin, name)))
    .filter((path) => path.endsWith(".db"));
}
