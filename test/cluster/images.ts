/** Puts image archives (scripts/images makes them) into a cluster's containerd; nothing is pulled from outside. */
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { command } from "./commands.ts";
import { type Cluster, findCluster, imagesDir } from "./layout.ts";

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
  const { mtimeMs, size } = statSync(archive);
  const stamp = `${mtimeMs}-${size}`;
  if (loadedImages(cluster)[archive] === stamp) return;
  await command(
    "ctr",
    "--address",
    cluster.containerdSocket,
    "--namespace=k8s.io",
    "images",
    "import",
    "--digests=false",
    archive,
  );
  // Read again: several imports may run at once.
  writeFileSync(stampsFile(cluster), JSON.stringify({ ...loadedImages(cluster), [archive]: stamp }));
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
