/**
 * The private mount namespace of one cluster, kept alive by a sleeping process ("mounts"). containerd and kubelet live in it, so
 * that whatever they mount (layers, secrets, volumes) vanishes with the last process instead of staying on the host, and so that
 * the folders whose paths kubelet, CNI and containerd's shims have built in are one per cluster.
 * Holds: mounts that the host makes later appear inside (slave); none of the cluster's appears on the host.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { command, delay, succeeds } from "./commands.ts";
import type { Cluster } from "./layout.ts";
import { ensureRunning, logTail, runningPid } from "./processes.ts";

const HOLDER = "mounts";

/** Host path that is hard-coded somewhere → folder of the cluster which lies over it. */
const OVERLAID = (cluster: Cluster): Record<string, string> => ({
  "/var/lib/kubelet": join(cluster.stateDir, "kubelet"), // device plugin sockets, whatever --root-dir says
  "/var/log/containers": join(cluster.stateDir, "container-logs"), // kubelet deletes dead links there: other kubelets' too
  "/var/lib/cni": join(cluster.stateDir, "cni-state"),
  "/run/containerd": join(cluster.runDir, "shims"),
});

export function mountHolder(cluster: Cluster): number | undefined {
  return runningPid(cluster, HOLDER);
}

/** @returns the pid whose mount namespace it is */
export async function ensureMounts(cluster: Cluster): Promise<number> {
  const running = mountHolder(cluster);
  if (running !== undefined) return running;
  const binds: string[] = [];
  for (const [over, own] of Object.entries(OVERLAID(cluster))) {
    mkdirSync(over, { recursive: true });
    mkdirSync(own, { recursive: true });
    binds.push(`mount --bind '${own}' '${over}'`);
  }
  const ready = join(cluster.runDir, "mounts-ready");
  const script = ["set -e", "mount --make-rshared /", ...binds, `touch '${ready}'`, "exec sleep infinity"].join("\n");
  await command("rm", "-f", ready);
  const pid = ensureRunning(cluster, {
    name: HOLDER,
    argv: ["unshare", "--mount", "--propagation", "slave", "sh", "-c", script],
  });
  for (const until = Date.now() + 10_000; !(await succeeds("test", "-e", ready)); await delay(20)) {
    if (mountHolder(cluster) === undefined || Date.now() > until) {
      throw new Error(`${cluster.name}: no private mounts: ${logTail(cluster, HOLDER, 3)}`);
    }
  }
  return pid;
}
