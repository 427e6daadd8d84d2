/**
 * Brings clusters up, or repairs what is there: whatever runs is left alone, whatever is missing is made, whatever a killed or
 * rebooted machine left behind is removed first. Running it twice is running it once.
 */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ask, get } from "./api-client.ts";
import { ensureCertificates, writeKubeconfig } from "./certificates.ts";
import { killEverythingIn, makeCgroups } from "./cgroups.ts";
import { delay } from "./commands.ts";
import { ensureApiServer, ensureControllers } from "./control-plane.ts";
import { advertiseGpus } from "./gpus.ts";
import { loadImage } from "./images.ts";
import { raiseInotifyLimit } from "./inotify.ts";
import {
  type Cluster,
  type ClusterSet,
  clusterSet,
  holdSubnet,
  placeClusters,
  readRecord,
  writeRecord,
} from "./layout.ts";
import { withSetLocked } from "./lock.ts";
import { ensureMounts, mountHolder } from "./mounts.ts";
import { ensureBridge, ensureLink, hasNamespace, makeNamespace, removeNamespace } from "./network.ts";
import { containerdAnswers, ensureContainerd, ensureKubelet, ensureKubeProxy, PAUSE_IMAGE } from "./node.ts";
import { forgetPrograms, logTail, runningPid } from "./processes.ts";
import { missingRequirement } from "./requirements.ts";
import { ensureSeed, plantSeed, type Seed } from "./seed.ts";

/** A cluster needs 7 s on an idle machine; this is for five of them on two busy cores. */
const STEP_TIMEOUT_MS = 180_000;
const POLL_MS = 150;

export type UpOptions = {
  set?: ClusterSet;
  /** Told of each step of each cluster. */
  progress?: (cluster: string, step: string) => void;
};

/** @param names "coordinator" gets the set's first address. @returns when all nodes are Ready and pods can be created */
export async function up(
  names: string[],
  { set = clusterSet(), progress = () => undefined }: UpOptions = {},
): Promise<Cluster[]> {
  const missing = await missingRequirement();
  if (missing) throw new Error(missing);
  return withSetLocked(set, async () => {
    holdSubnet(set);
    raiseInotifyLimit();
    forgetAfterReboot(set);
    const clusters = placeClusters(set, names);
    for (const cluster of clusters) {
      writeRecord(cluster, { index: cluster.index, gpus: readRecord(set, cluster.name)?.gpus ?? 0 });
    }
    await ensureBridge(set);
    const seed = clusters.every(hasImages) ? undefined : ensureSeed();
    const outcomes = clusters.map((cluster) => upOne(cluster, seed, (step) => progress(cluster.name, step)));
    // All of them end before the lock is given up, also when one has failed.
    await Promise.allSettled(outcomes);
    await Promise.all(outcomes);
    return clusters;
  });
}

async function upOne(
  cluster: Cluster,
  seed: Promise<Seed> | undefined,
  progress: (step: string) => void,
): Promise<void> {
  if (!(await isWhole(cluster))) await removeLeftovers(cluster);
  mkdirSync(cluster.runDir, { recursive: true });
  makeCgroups(cluster.scope);
  if (!(await hasNamespace(cluster))) await makeNamespace(cluster);
  await ensureLink(cluster);
  await ensureCertificates(cluster);
  writeKubeconfig(cluster, "admin", cluster.kubeconfig);

  ensureApiServer(cluster);
  const mountsOf = await ensureMounts(cluster);
  if (seed && !hasImages(cluster)) await plantSeed(cluster, await seed);
  ensureContainerd(cluster, mountsOf);
  await waitFor(cluster, ["containerd"], () => containerdAnswers(cluster));
  await loadImage(cluster, PAUSE_IMAGE);
  await waitFor(cluster, ["etcd", "kube-apiserver"], () => isReady(cluster));
  progress("API server ready");

  ensureControllers(cluster);
  // Of a kubelet that was just started only a report of its own counts: the last one of its predecessor still says Ready.
  const reportedSince = runningPid(cluster, "kubelet") === undefined ? Date.now() : 0;
  ensureKubelet(cluster, mountsOf);
  ensureKubeProxy(cluster);
  await waitFor(cluster, PROGRAMS, () => takesPods(cluster, reportedSince));
  const gpus = readRecord(cluster.set, cluster.name)?.gpus ?? 0;
  if (gpus > 0) await advertiseGpus(cluster, gpus);
  progress("node ready");
}

function hasImages(cluster: Cluster): boolean {
  return existsSync(join(cluster.stateDir, "containerd"));
}

const PROGRAMS = [
  "etcd",
  "kube-apiserver",
  "containerd",
  "kube-controller-manager",
  "kube-scheduler",
  "kubelet",
  "kube-proxy",
];

/** The namespaces that everything else lives in are there: what is missing can be started into them. */
async function isWhole(cluster: Cluster): Promise<boolean> {
  return mountHolder(cluster) !== undefined && (await hasNamespace(cluster));
}

/** Processes without their namespaces are of no use to the next start; the data on disk is. */
async function removeLeftovers(cluster: Cluster): Promise<void> {
  await killEverythingIn(cluster.scope);
  await removeNamespace(cluster);
  forgetPrograms(cluster);
  rmSync(cluster.runDir, { recursive: true, force: true });
  // Addresses of pods that no longer exist would stay taken for ever.
  rmSync(join(cluster.stateDir, "cni-state"), { recursive: true, force: true });
}

/** Where /run is on a disk it survives a reboot, with pids in it that mean something else by now. */
function forgetAfterReboot(set: ClusterSet): void {
  const bootId = readFileSync("/proc/sys/kernel/random/boot_id", "utf8");
  const file = join(set.runDir, "boot-id");
  let last: string | undefined;
  try {
    last = readFileSync(file, "utf8");
  } catch {
    // the first time
  }
  if (last !== bootId) rmSync(set.runDir, { recursive: true, force: true });
  mkdirSync(set.runDir, { recursive: true });
  writeFileSync(file, bootId);
}

async function isReady(cluster: Cluster): Promise<boolean> {
  const answer = await ask(cluster, { path: "/readyz" }).catch(() => undefined);
  return answer?.status === 200;
}

type Node = {
  spec?: { taints?: { key: string }[] };
  status?: { conditions?: { type: string; status: string; lastHeartbeatTime?: string }[] };
};

/** Ready, without the taint that a new node has, and the service account which every pod is given exists. */
async function takesPods(cluster: Cluster, reportedSince: number): Promise<boolean> {
  const node = await get<Node>(cluster, `/api/v1/nodes/${cluster.name}`);
  const ready = node?.status?.conditions?.some(
    ({ type, status, lastHeartbeatTime }) =>
      // The heartbeat is in whole seconds.
      type === "Ready" && status === "True" && Date.parse(lastHeartbeatTime ?? "") > reportedSince - 1000,
  );
  if (!ready || (node?.spec?.taints?.length ?? 0) > 0) return false;
  return (await get(cluster, "/api/v1/namespaces/default/serviceaccounts/default")) !== undefined;
}

/** @throws at once when one of the programs that were started has ended, with the end of its log */
async function waitFor(cluster: Cluster, programs: string[], isThere: () => Promise<boolean>): Promise<void> {
  for (const until = Date.now() + STEP_TIMEOUT_MS; !(await isThere()); await delay(POLL_MS)) {
    const ended = programs.find((program) => runningPid(cluster, program) === undefined);
    if (ended) throw new Error(`${cluster.name}: ${ended} has ended:\n${logTail(cluster, ended)}`);
    if (Date.now() > until) {
      const seconds = STEP_TIMEOUT_MS / 1000;
      throw new Error(
        `${cluster.name}: ${programs.join(", ")} not ready after ${seconds} s; see ${join(cluster.stateDir, "logs")}`,
      );
    }
  }
}
