/** What runs of each cluster of a set. */
import { get } from "./api-client.ts";
import { type Cluster, type ClusterSet, clusterSet, knownClusters } from "./layout.ts";
import { recordedPrograms, runningPid } from "./processes.ts";

export type ClusterStatus = {
  name: string;
  address: string;
  kubeconfig: string;
  /** Ready: the node is. Stopped: nothing runs. Broken: a program has ended, or the node is not ready. */
  state: "Ready" | "Broken" | "Stopped";
  ended: string[];
};

export async function status(set: ClusterSet = clusterSet()): Promise<ClusterStatus[]> {
  return Promise.all(knownClusters(set).map(statusOf));
}

async function statusOf(cluster: Cluster): Promise<ClusterStatus> {
  const { name, address, kubeconfig } = cluster;
  const programs = recordedPrograms(cluster);
  const ended = programs.filter((program) => runningPid(cluster, program) === undefined);
  if (ended.length === programs.length) return { name, address, kubeconfig, state: "Stopped", ended };
  const state = ended.length === 0 && (await isNodeReady(cluster)) ? "Ready" : "Broken";
  return { name, address, kubeconfig, state, ended };
}

async function isNodeReady(cluster: Cluster): Promise<boolean> {
  type Node = { status?: { conditions?: { type: string; status: string }[] } };
  const node = await get<Node>(cluster, `/api/v1/nodes/${cluster.name}`);
  return node?.status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True") ?? false;
}
