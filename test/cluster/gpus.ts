/**
 * Advertised GPUs: an extended resource on the node, so that scheduling, quotas and the reasons of pending pods are the real ones while
 * the trainer computes on the CPU.
 */
import { ask } from "./api-client.ts";
import { type Cluster, findCluster, readRecord, writeRecord } from "./layout.ts";

/** Takes effect at once and is given again by each later `up`. */
export async function advertiseGpus(name: string | Cluster, gpus: number): Promise<void> {
  const cluster = typeof name === "string" ? findCluster(name) : name;
  const quantity = { "nvidia.com/gpu": String(gpus) };
  const { status, body } = await ask(cluster, {
    method: "PATCH",
    path: `/api/v1/nodes/${cluster.name}/status`,
    // kubelet would work out what is allocatable from the capacity, but only at its next report.
    mergePatch: { status: { capacity: quantity, allocatable: quantity } },
  });
  if (status !== 200) throw new Error(`${cluster.name} takes no GPUs: ${body}`);
  const record = readRecord(cluster.set, cluster.name);
  if (record) writeRecord(cluster, { ...record, gpus });
}
