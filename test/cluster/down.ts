/**
 * Takes clusters down and leaves nothing: processes, mounts, namespaces, control groups, files; with the last cluster the bridge and the
 * claim of the subnet. Nothing is asked to stop, since everything that it could save is deleted next.
 */
import { existsSync, readdirSync, rmdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { killEverythingIn, removeCgroups } from "./cgroups.ts";
import { command, succeeds } from "./commands.ts";
import { type Cluster, type ClusterSet, clusterSet, findCluster, knownClusters, subnetClaims } from "./layout.ts";
import { withSetLocked } from "./lock.ts";
import { removeBridge, removeNamespace } from "./network.ts";
import { killProgram } from "./processes.ts";

/** @param names none means all of the set */
export async function down(names: string[] = [], set: ClusterSet = clusterSet()): Promise<void> {
  await withSetLocked(set, async () => {
    const clusters = names.length > 0 ? names.map((name) => findCluster(name, set)) : knownClusters(set);
    await Promise.all(clusters.map(downOne));
    if (knownClusters(set).length > 0) return;
    await removeBridge(set);
    rmSync(set.stateDir, { recursive: true, force: true });
    rmSync(set.runDir, { recursive: true, force: true });
    rmSync(join(subnetClaims(), String(set.number)), { force: true });
  });
  await removeNamespaceFolder();
  for (const dir of [
    dirname(set.runDir),
    subnetClaims(),
    dirname(set.stateDir),
    dirname(subnetClaims()),
    ...MOUNT_POINTS,
  ])
    removeIfEmpty(dir);
}

async function downOne(cluster: Cluster): Promise<void> {
  // kubelet first, so that it does not start again what dies.
  await killProgram(cluster, "kubelet");
  await killEverythingIn(cluster.scope);
  await removeNamespace(cluster);
  await removeCgroups(cluster.scope);
  rmSync(cluster.runDir, { recursive: true, force: true });
  // Tens of thousands of files of images: rmSync would hold up the other clusters of this process.
  await command("rm", "-rf", cluster.stateDir);
}

/** `ip netns` mounts its folder over itself when it makes the first namespace, and leaves that behind with the last. */
async function removeNamespaceFolder(): Promise<void> {
  const dir = "/run/netns";
  if (!existsSync(dir) || readdirSync(dir).length > 0) return;
  await succeeds("umount", dir);
  removeIfEmpty(dir);
}

/** Made on the host only to be covered (mounts.ts). */
const MOUNT_POINTS = ["/var/lib/kubelet", "/var/log/containers", "/var/lib/cni", "/run/containerd"];

function removeIfEmpty(dir: string): void {
  try {
    if (existsSync(dir) && readdirSync(dir).length === 0) rmdirSync(dir);
  } catch {
    // somebody uses it
  }
}
