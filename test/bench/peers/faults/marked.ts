/** The processes of one part (a site, the server): found by a mark in their environment, which their descendants inherit. Linux only. */
import { randomUUID } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";

const NAME = "RONDO_FAULTS_PART";

export interface Part {
  env: Record<string, string>;
  /** SIGKILL to all its processes. @returns how many there were */
  kill(): number;
}

export function part(): Part {
  const value = randomUUID();
  return { env: { [NAME]: value }, kill: () => killAll(`${NAME}=${value}`) };
}

/** Until none is left: a process may be starting another one meanwhile. */
function killAll(mark: string): number {
  const killed = new Set<number>();
  for (let looks = 0; looks < 20; looks++) {
    const alive = pidsOf(mark);
    if (alive.length === 0) break;
    for (const pid of alive) {
      killed.add(pid);
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It ended in between.
      }
    }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
  }
  return killed.size;
}

function pidsOf(mark: string): number[] {
  return readdirSync("/proc")
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && isMarked(pid, mark));
}

function isMarked(pid: number, mark: string): boolean {
  try {
    // A zombie's environment is empty.
    return readFileSync(`/proc/${pid}/environ`, "latin1").split("\0").includes(mark);
  } catch {
    return false;
  }
}
