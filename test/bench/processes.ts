/**
 * Processes of a benchmark: started with a mark in their environment, found by it with all their descendants (some daemons leave
 * their parent), watched for memory and CPU, and ended. Linux only: it reads /proc.
 * Holds: only marked processes are ever signalled.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { closeSync, openSync, readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const SAMPLE_MS = 200;
const CLOCK_TICKS = 100; // sysconf(_SC_CLK_TCK) is 100 on every Linux that Node runs on

export interface Usage {
  /** Largest sum over the role's processes at one time. */
  peakRssMiB: number;
  /** Largest of one process (VmHWM): what a memory limit would have to be at least. */
  largestMiB: number;
  processes: number;
  cpuSeconds: number;
}

const groups = new Set<ProcessGroup>();
for (const [signal, number] of [
  ["SIGINT", 2],
  ["SIGTERM", 15],
] as const) {
  process.once(signal, () => {
    void Promise.all([...groups].map((group) => group.end())).finally(() => process.exit(128 + number));
  });
}

export class ProcessGroup {
  readonly #mark = `RONDO_BENCH_MARK=${randomUUID()}`;
  readonly #roleOf: (command: string) => string;
  readonly #roles = new Map<number, string>();
  readonly #foreign = new Set<number>();
  readonly #cpu = new Map<number, number>();
  readonly #usage = new Map<string, Usage>();
  #timer: NodeJS.Timeout;

  /** @param roleOf  a short word for a command line; memory is summed by it */
  constructor(roleOf: (command: string) => string) {
    this.#roleOf = roleOf;
    groups.add(this);
    this.#timer = setInterval(() => this.sample(), SAMPLE_MS);
  }

  start(
    command: string,
    args: string[],
    { env = {}, cwd, log }: { env?: NodeJS.ProcessEnv; cwd?: string; log: string },
  ) {
    const out = openSync(log, "a");
    const [name, value] = this.#mark.split("=") as [string, string];
    const child: ChildProcess = spawn(command, args, {
      cwd,
      env: { ...process.env, ...env, [name]: value },
      stdio: ["ignore", out, out],
    });
    closeSync(out);
    child.on("error", () => undefined); // a program that is not there: seen by whoever waits for its effect
    return child;
  }

  usage(role: string): Usage {
    return this.#usage.get(role) ?? { peakRssMiB: 0, largestMiB: 0, processes: 0, cpuSeconds: 0 };
  }

  /** CPU seconds of all processes seen, up to their last sample. */
  cpuSeconds(): number {
    return [...this.#cpu.values()].reduce((sum, seconds) => sum + seconds, 0);
  }

  sample(): void {
    const rss = new Map<string, number>();
    for (const pid of this.#pids()) {
      const status = readOf(pid, "status");
      const role = this.#role(pid);
      if (status === undefined || role === undefined) continue;
      rss.set(role, (rss.get(role) ?? 0) + kilobytes(status, "VmRSS") / 1024);
      const usage = this.#usageOf(role);
      usage.largestMiB = Math.max(usage.largestMiB, kilobytes(status, "VmHWM") / 1024);
      const seconds = cpuOf(pid);
      usage.cpuSeconds += seconds - (this.#cpu.get(pid) ?? 0);
      this.#cpu.set(pid, seconds);
    }
    for (const [role, sum] of rss) this.#usageOf(role).peakRssMiB = Math.max(this.#usageOf(role).peakRssMiB, sum);
  }

  /** Asks, waits, then kills. */
  async end(): Promise<void> {
    clearInterval(this.#timer);
    groups.delete(this);
    this.#signal("SIGTERM");
    for (let waits = 0; waits < 30 && this.#pids().length > 0; waits++) await sleep(100);
    this.#signal("SIGKILL");
  }

  #signal(signal: NodeJS.Signals): void {
    for (const pid of this.#pids()) {
      try {
        process.kill(pid, signal);
      } catch {
        // It ended in between.
      }
    }
  }

  #pids(): number[] {
    const pids: number[] = [];
    for (const entry of readdirSync("/proc")) {
      const pid = Number(entry);
      if (!Number.isInteger(pid) || this.#foreign.has(pid)) continue;
      if (this.#roles.has(pid) || this.#isMarked(pid)) pids.push(pid);
    }
    return pids;
  }

  #isMarked(pid: number): boolean {
    const environment = readOf(pid, "environ");
    if (environment === undefined) return false;
    if (environment.includes(this.#mark)) return true;
    if (environment !== "") this.#foreign.add(pid); // empty: between fork and exec, look again
    return false;
  }

  #role(pid: number): string | undefined {
    const command = readOf(pid, "cmdline")?.replaceAll("\0", " ").trim();
    const known = this.#roles.get(pid);
    if (!command) return known; // an ending process has none
    const role = this.#roleOf(command); // again: a process may become another program
    if (known === undefined) this.#usageOf(role).processes++;
    this.#roles.set(pid, role);
    return role;
  }

  #usageOf(role: string): Usage {
    const found = this.#usage.get(role) ?? { peakRssMiB: 0, largestMiB: 0, processes: 0, cpuSeconds: 0 };
    this.#usage.set(role, found);
    return found;
  }
}

function readOf(pid: number, file: string): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "latin1");
  } catch {
    return undefined;
  }
}

function kilobytes(status: string, field: string): number {
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(status)?.[1] ?? 0);
}

/** User and system time of one process, its threads included, its children not. */
export function cpuOf(pid: number): number {
  const fields =
    readOf(pid, "stat")
      ?.replace(/^.*\) /s, "")
      .split(" ") ?? [];
  return (Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) / CLOCK_TICKS;
}

/** Resident memory now. */
export function rssMiBOf(pid: number): number {
  return kilobytes(readOf(pid, "status") ?? "", "VmRSS") / 1024;
}
