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

export type Seed = {
  dir: string;
  /** Path → stamp of what is unpacked in it. */
  archives: Record<string, string>;
};

const SEEDS = join(cacheDir, "seeds");
/** No import takes that long: an older draft was left by somebody who was killed. */
const DRAFT_LIFETIME_MS = 15 * 60_000;

/** @returns the seed that fits to the archives as they are, made now if need be */
export async function ensureSeed(): Promise<Seed> {
  const archives = Object.fromEntries(archivePaths().map((archive) => [archive, archiveStamp(archive)]));
  const identity = createHash("sha256").update(JSON.stringify(archives)).digest("hex").slice(0, 16);
  const seed = { dir: join(SEEDS, identity), archives };
  if (existsSync(seed.dir)) return seed;
  mkdirSync(SEEDS, { recursive: true });
  removeOldSeeds();
  const draft = mkdtempSync(`${seed.dir}.new-`);
  try {
    await importAll(draft, Object.keys(archives));
    // Another set may have been faster.
    if (!existsSync(seed.dir)) renameSync(draft, seed.dir);
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
  return seed;
}

/** Clusters that were made from them keep their links. */
function removeOldSeeds(): void {
  for (const name of readdirSync(SEEDS)) {
    const dir = join(SEEDS, name);
    const isDraft = name.includes(".new-") && Date.now() - statSync(dir).mtimeMs < DRAFT_LIFETIME_MS;
    if (!isDraft) rmSync(dir, { recursive: true, force: true });
  }
}

/**
 * Gives a cluster without images those of the seed. Without effect where hard links cannot reach (another file system) or the seed
 * was just replaced: the images are imported then.
 */
export async function plantSeed(cluster: Cluster, seed: Seed): Promise<void> {
  const root = join(cluster.stateDir, "containerd");
  const draft = `${root}.new`;
  rmSync(draft, { recursive: true, force: true });
  try {
    await command("cp", "-al", seed.dir, draft);
    for (const database of databasesBelow(draft)) {
      await command("cp", database, `${database}.own`);
      renameSync(`${database}.own`, database);
    }
  } catch {
    rmSync(draft, { recursive: true, force: true });
    return;
  }
  renameSync(draft, root);
  rememberLoaded(cluster, seed.archives);
}

function archivePaths(): string[] {
  return readdirSync(imagesDir)
    .filter((file) => file.endsWith(".tar") && !file.startsWith("."))
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
