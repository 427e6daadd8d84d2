/**
 * One control group per cluster, in every hierarchy of the host (v1, v2 or both): `<scope>/system` holds the cluster's own
 * programs, `<scope>/kubepods` is made by kubelet. Holds: every process that a cluster ever started is in one of them, so that
 * `killEverythingIn` finds also what no record names (shims, pods, programs of an `up` that was killed).
 */
import { mkdirSync, readdirSync, readFileSync, rmdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { delay } from "./commands.ts";

type Hierarchy = { path: string; version: 1 | 2; controllers: string[] };

function hierarchies(): Hierarchy[] {
  const found = new Map<string, Hierarchy>();
  for (const line of readFileSync("/proc/self/mountinfo", "utf8").split("\n")) {
    const [head = "", tail = ""] = line.split(" - ");
    const [type, , options = ""] = tail.split(" ");
    const path = head.split(" ")[4] ?? "";
    if (type === "cgroup2") found.set(path, { path, version: 2, controllers: readWords(path, "cgroup.controllers") });
    if (type === "cgroup") found.set(path, { path, version: 1, controllers: options.split(",") });
  }
  return [...found.values()];
}

/** The one hierarchy whose membership says which processes belong to a cluster. */
function tracking(all: Hierarchy[]): Hierarchy {
  const found =
    all.find((h) => h.version === 1 && h.controllers.includes("pids")) ??
    all.find((h) => h.version === 2 && h.controllers.includes("pids"));
  if (!found) throw new Error("this system has no pids control group: local clusters cannot run here");
  return found;
}

export function makeCgroups(scope: string): void {
  for (const hierarchy of hierarchies()) {
    const own = join(hierarchy.path, scope);
    if (hierarchy.version === 2) enableControllers(hierarchy.path);
    mkdirSync(join(own, "system"), { recursive: true });
    if (hierarchy.version === 2) enableControllers(own);
    // A v1 cpuset starts empty, and no process can enter it before it has processors and memory nodes.
    if (hierarchy.controllers.includes("cpuset") && hierarchy.version === 1) {
      for (const file of ["cpuset.cpus", "cpuset.mems"]) {
        const value = readFileSync(join(hierarchy.path, file));
        for (const group of [own, join(own, "system")]) writeFileSync(join(group, file), value);
      }
    }
  }
}

/** The files to write a pid into, so that the process counts as the cluster's own. */
export function membershipFiles(scope: string): string[] {
  return hierarchies()
    .filter((h) => h.controllers.some((c) => ["pids", "memory", "cpu", "cpuacct"].includes(c)))
    .map((h) => join(h.path, scope, "system", "cgroup.procs"));
}

export function processesIn(scope: string): number[] {
  return processesBelow(join(tracking(hierarchies()).path, scope));
}

function processesBelow(group: string): number[] {
  const pids = readWords(group, "cgroup.procs").map(Number);
  for (const child of childGroups(group)) pids.push(...processesBelow(child));
  return pids;
}

/** Kills again and again, since a process may fork between the reading and the kill. */
export async function killEverythingIn(scope: string): Promise<void> {
  const until = Date.now() + 20_000;
  for (let pids = processesIn(scope); pids.length > 0; pids = processesIn(scope)) {
    if (Date.now() > until) throw new Error(`processes ${pids.join(", ")} of ${scope} do not die`);
    for (const pid of pids) kill(pid);
    await delay(25);
  }
}

export async function removeCgroups(scope: string): Promise<void> {
  for (const { path } of hierarchies()) await removeGroup(join(path, scope));
}

async function removeGroup(group: string): Promise<void> {
  for (const child of childGroups(group)) await removeGroup(child);
  // The kernel releases a dead process's group a moment after its death.
  for (let attempt = 0; ; attempt++) {
    try {
      rmdirSync(group);
      return;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "ENOENT") return;
      if (code !== "EBUSY" || attempt === 100) throw error;
      await delay(20);
    }
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // it died by itself
  }
}

function enableControllers(group: string): void {
  for (const controller of readWords(group, "cgroup.controllers")) {
    try {
      writeFileSync(join(group, "cgroup.subtree_control"), `+${controller}`);
    } catch {
      // not every controller can be given on (cpu with real-time processes); kubelet says if it misses one
    }
  }
}

function childGroups(group: string): string[] {
  try {
    return readdirSync(group)
      .map((name) => join(group, name))
      .filter((path) => statSync(path).isDirectory());
  } catch {
    return [];
  }
}

function readWords(group: string, file: string): string[] {
  try {
    return readFileSync(join(group, file), "utf8").split(/\s+/).filter(Boolean);
  } catch {
    return [];
  }
}
