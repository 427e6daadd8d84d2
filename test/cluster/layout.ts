/**
 * Where everything of a local cluster is: names, addresses, folders. Docs: docs/local-clusters.md.
 * A *set* is a family of clusters on one bridge; different sets (RONDO_CLUSTERS_SET) never touch each other, so that tests can
 * run beside a demo. Holds: every kernel object of a set begins with its prefix, every file lies under its two folders.
 * Does not: create anything but the claim of a subnet.
 */
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

/** Not under the cache or the repository: containerd wants a real file system, and the path must fit into socket names. */
const STATE_ROOT = "/var/lib/rondo-clusters";
/** Sockets, process records: worthless after a reboot. */
const RUN_ROOT = "/run/rondo-clusters";

export const cacheDir =
  process.env.RONDO_CACHE ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "rondo");
export const binDir = join(cacheDir, "bin");
export const imagesDir = join(cacheDir, "images");

export type ClusterSet = {
  name: string;
  /** Names of bridge, namespaces and cgroups begin with it. */
  prefix: string;
  /** The set owns 10.77.<number>.0/24. */
  number: number;
  bridge: string;
  gateway: string;
  subnet: string;
  stateDir: string;
  runDir: string;
};

export type Cluster = {
  set: ClusterSet;
  /** Also the name of its only node. */
  name: string;
  index: number;
  /** Of the node, on the set's bridge. */
  address: string;
  /** Name of the network namespace, the cgroup and the CNI network. */
  scope: string;
  veth: string;
  podCidr: string;
  stateDir: string;
  runDir: string;
  kubeconfig: string;
  containerdSocket: string;
};

/** What is remembered of a cluster between two calls. */
export type ClusterRecord = { index: number; gpus: number };

const NAME = /^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$/;

/** @param name `undefined` means RONDO_CLUSTERS_SET, or "rondo". Claims a free subnet for a new set. */
export function clusterSet(name = process.env.RONDO_CLUSTERS_SET ?? "rondo"): ClusterSet {
  if (!NAME.test(name)) throw new RangeError(`"${name}" is no name for a set of clusters: use a-z, 0-9 and -`);
  const number = name === "rondo" ? 0 : claimSubnet(name);
  return {
    name,
    prefix: name === "rondo" ? "rondo" : `rondo-${name}`,
    number,
    bridge: `rondo${number}`,
    gateway: `10.77.${number}.1`,
    subnet: `10.77.${number}.0/24`,
    stateDir: join(STATE_ROOT, "sets", name),
    runDir: join(RUN_ROOT, name),
  };
}

/** The claim is a file created exclusively, so that two sets which start at once get two subnets. */
function claimSubnet(name: string): number {
  const claims = subnetClaims();
  mkdirSync(claims, { recursive: true });
  for (const number of readdirSync(claims)) {
    if (readFileSync(join(claims, number), "utf8") === name) return Number(number);
  }
  for (let number = 1; number < 255; number++) {
    try {
      const file = openSync(join(claims, String(number)), "wx");
      writeFileSync(file, name);
      closeSync(file);
      return number;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
  }
  throw new Error(`all 254 subnets are claimed: take down sets that nobody uses (${claims})`);
}

/** The claim goes with the last cluster (down.ts); whoever has kept the set since then claims the same subnet again. */
export function holdSubnet(set: ClusterSet): void {
  mkdirSync(subnetClaims(), { recursive: true });
  const claim = join(subnetClaims(), String(set.number));
  try {
    writeFileSync(claim, set.name, { flag: "wx" });
  } catch {
    const holder = readFileSync(claim, "utf8");
    if (holder !== set.name)
      throw new Error(`the set "${holder}" has taken ${set.subnet} since "${set.name}" went down: try again`);
  }
}

export function subnetClaims(): string {
  return join(STATE_ROOT, "subnets");
}

export function layOut(set: ClusterSet, name: string, index: number): Cluster {
  const stateDir = join(set.stateDir, name);
  const runDir = join(set.runDir, name);
  return {
    set,
    name,
    index,
    address: `10.77.${set.number}.${10 + index}`,
    scope: `${set.prefix}-${name}`,
    veth: `rondo${set.number}-${index}`,
    podCidr: `10.244.${index}.0/24`,
    stateDir,
    runDir,
    kubeconfig: join(stateDir, "kubeconfig"),
    containerdSocket: join(runDir, "containerd.sock"),
  };
}

/** The clusters of a set that exist, running or not, the coordinator first. */
export function knownClusters(set: ClusterSet): Cluster[] {
  const clusters: Cluster[] = [];
  for (const name of listDir(set.stateDir)) {
    const record = readRecord(set, name);
    if (record) clusters.push(layOut(set, name, record.index));
  }
  return clusters.sort((a, b) => a.index - b.index);
}

/** @throws when the cluster was never brought up */
export function findCluster(name: string, set = clusterSet()): Cluster {
  const record = readRecord(set, name);
  if (!record) throw new Error(`there is no cluster "${name}" in the set "${set.name}": bring it up first`);
  return layOut(set, name, record.index);
}

/** Gives known names their old place and new names the lowest free one; index 0 is the coordinator's. */
export function placeClusters(set: ClusterSet, names: string[]): Cluster[] {
  const taken = new Map(knownClusters(set).map((cluster) => [cluster.name, cluster.index]));
  const used = new Set(taken.values());
  return names.map((name) => {
    if (!NAME.test(name)) throw new RangeError(`"${name}" is no name for a cluster: use a-z, 0-9 and -`);
    let index = taken.get(name);
    if (index === undefined) {
      index = name === "coordinator" ? 0 : 1;
      while (used.has(index)) index++;
    }
    taken.set(name, index);
    used.add(index);
    return layOut(set, name, index);
  });
}

export function readRecord(set: ClusterSet, name: string): ClusterRecord | undefined {
  try {
    return JSON.parse(readFileSync(join(set.stateDir, name, "cluster.json"), "utf8")) as ClusterRecord;
  } catch {
    return undefined; // absent, or a first `up` was killed while it wrote: both mean that there is no cluster yet
  }
}

export function writeRecord(cluster: Cluster, record: ClusterRecord): void {
  mkdirSync(cluster.stateDir, { recursive: true });
  writeFileSync(join(cluster.stateDir, "cluster.json"), JSON.stringify(record));
}

function listDir(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

/** The host's node address of a running or stopped cluster. */
export function nodeAddress(name: string, set = clusterSet()): string {
  return findCluster(name, set).address;
}

export function kubeconfigPath(name: string, set = clusterSet()): string {
  return findCluster(name, set).kubeconfig;
}
