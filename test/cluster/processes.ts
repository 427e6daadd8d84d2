/**
 * Long-running programs of a cluster: started in its cgroup and namespaces, detached, remembered by pid *and* start time, so
 * that a pid which the kernel gave to somebody else is never taken for ours. Output goes to `<state>/logs/<program>.log`.
 */
import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { membershipFiles } from "./cgroups.ts";
import { delay } from "./commands.ts";
import type { Cluster } from "./layout.ts";

type ProcessRecord = { pid: number; startTicks: string };

export type Program = {
  name: string;
  argv: string[];
  /** The mount namespace of this process is entered too; without it the program sees the host's mounts. */
  mountsOf?: number;
  env?: Record<string, string>;
};

/** Starts a program unless it runs already. @returns its pid */
export function ensureRunning(cluster: Cluster, program: Program): number {
  return runningPid(cluster, program.name) ?? start(cluster, program);
}

function start(cluster: Cluster, { name, argv, mountsOf, env }: Program): number {
  mkdirSync(join(cluster.stateDir, "logs"), { recursive: true });
  mkdirSync(recordsDir(cluster), { recursive: true });
  const log = openSync(logPath(cluster, name), "a");
  // The shell enters the cgroup before anything else, so that no crash of ours can leave a process that nobody finds. All is exec:
  // the pid stays the same. `ip netns exec` would not do: it mounts a new /sys, which hides the cgroups.
  const script = 'while [ "$1" != -- ]; do echo $$ > "$1" || exit 1; shift; done; shift; exec "$@"';
  const enter = ["nsenter", `--net=/run/netns/${cluster.scope}`];
  if (mountsOf !== undefined) enter.push(`--mount=/proc/${mountsOf}/ns/mnt`);
  const child = spawn("sh", ["-c", script, "sh", ...membershipFiles(cluster.scope), "--", ...enter, "--", ...argv], {
    detached: true,
    stdio: ["ignore", log, log],
    cwd: "/",
    env: { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", HOME: "/root", ...env },
  });
  child.unref();
  closeSync(log);
  if (child.pid === undefined) throw new Error(`cannot start ${name} of ${cluster.name}`);
  const record: ProcessRecord = { pid: child.pid, startTicks: startTicks(child.pid) ?? "" };
  const path = recordPath(cluster, name);
  writeFileSync(`${path}.new`, JSON.stringify(record));
  renameSync(`${path}.new`, path);
  return child.pid;
}

/** The pid of a program that was started and still runs. */
export function runningPid(cluster: Cluster, name: string): number | undefined {
  let record: ProcessRecord;
  try {
    record = JSON.parse(readFileSync(recordPath(cluster, name), "utf8")) as ProcessRecord;
  } catch {
    return undefined;
  }
  return startTicks(record.pid) === record.startTicks ? record.pid : undefined;
}

export function recordedPrograms(cluster: Cluster): string[] {
  try {
    return readdirSync(recordsDir(cluster))
      .filter((file) => file.endsWith(".json"))
      .map((file) => file.slice(0, -".json".length));
  } catch {
    return [];
  }
}

/** Ends one program at once, as a crash would. */
export async function killProgram(cluster: Cluster, name: string): Promise<void> {
  const pid = runningPid(cluster, name);
  if (pid === undefined) return;
  process.kill(pid, "SIGKILL");
  while (runningPid(cluster, name) !== undefined) await delay(10);
}

export function forgetPrograms(cluster: Cluster): void {
  rmSync(recordsDir(cluster), { recursive: true, force: true });
}

/** The last lines of a program's log, for a message about its failure. */
export function logTail(cluster: Cluster, name: string, lines = 12): string {
  try {
    return readFileSync(logPath(cluster, name), "utf8").trimEnd().split("\n").slice(-lines).join("\n");
  } catch {
    return "(no log)";
  }
}

export function logPath(cluster: Cluster, name: string): string {
  return join(cluster.stateDir, "logs", `${name}.log`);
}

/** Field 22 of /proc/<pid>/stat; undefined when there is no such process, or only its zombie. */
export function startTicks(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

function recordsDir(cluster: Cluster): string {
  return join(cluster.runDir, "processes");
}

function recordPath(cluster: Cluster, name: string): string {
  return join(recordsDir(cluster), `${name}.json`);
}
