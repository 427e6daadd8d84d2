/** Puts image archives (scripts/images makes them) into a cluster's containerd; nothing is pulled from outside. */
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { command } from "./commands.ts";
import { type Cluster, findCluster, imagesDir } from "./layout.ts";
import { snapshotterOn } from "./node.ts";

/** The archive that scripts/images keeps for a name: localhost/rondo:dev → <cache>/images/rondo.tar */
export function archiveOf(image: string): string {
  return join(imagesDir, `${image.replace(/^localhost\//, "").replace(/:[^:]*$/, "")}.tar`);
}

/**
 * @param image an archive's path, or the name of one that scripts/images made ("localhost/rondo:dev")
 * Does nothing when the cluster has had exactly this archive already.
 */
export async function loadImage(name: string | Cluster, image: string): Promise<void> {
  const cluster = typeof name === "string" ? findCluster(name) : name;
  const archive = image.includes("/") && existsSync(image) ? image : archiveOf(image);
  if (!existsSync(archive)) throw new Error(`there is no image archive ${archive}: run scripts/images`);
  const stamp = archiveStamp(archive);
  if (loadedImages(cluster)[archive] === stamp) return;
  const ctr = ["--address", cluster.containerdSocket, "--namespace=k8s.io"];
  const snapshotter = `--snapshotter=${snapshotterOn(cluster.stateDir)}`;
  await command("ctr", ...ctr, "images", "import", "--digests=false", snapshotter, archive);
  rememberLoaded(cluster, { [archive]: stamp });
}

/** Archives are replaced by renaming, never written in place. */
export function archiveStamp(archive: string): string {
  const { mtimeMs, size } = statSync(archive);
  return `${mtimeMs}-${size}`;
}

/** Reads again before it writes: several imports may run at once. @param archives path → stamp */
export function rememberLoaded(cluster: Cluster, archives: Record<string, string>): void {
  writeFileSync(stampsFile(cluster), JSON.stringify({ ...loadedImages(cluster), ...archives }));
}

function loadedImages(cluster: Cluster): Record<string, string> {
  try {
    return JSON.parse(readFileSync(stampsFile(cluster), "utf8")) as Record<string, string>;
  } catch {
    return {};
  }
}

function stampsFile(cluster: Cluster): string {
  return join(cluster.stateDir, "images.json");
}
