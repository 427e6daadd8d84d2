/** What the operator and an agent cost while nothing happens: resident memory and CPU, from the bundle that the image holds. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { startFederation } from "./federation.ts";
import type { Benchmark } from "./main.ts";
import { cpuOf, rssMiBOf } from "./processes.ts";
import { below, type Result, round } from "./report.ts";

/** Until garbage of starting up is collected and watches are settled. */
const SETTLE_S = 30;
const MEASURE_S = 60;

export const run: Benchmark = async () => {
  const folder = await mkdtemp(join(tmpdir(), "rondo-bench-idle-"));
  try {
    await using federation = await startFederation(folder, 1);
    await sleep(SETTLE_S * 1000);
    const [operator, agent] = await Promise.all([
      observe("operator", federation.operatorPid, { memoryMiB: 150, cpuPercent: 1 }),
      observe("agent", federation.agentPids[0]!, { memoryMiB: 120 }),
    ]);
    const notes = [
      `Largest of ${MEASURE_S} readings of VmRSS, one a second, ${SETTLE_S} s after the agent has connected.`,
    ];
    return { results: [...operator, ...agent], notes };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
};

async function observe(name: string, pid: number, bar: { memoryMiB: number; cpuPercent?: number }): Promise<Result[]> {
  const before = cpuOf(pid);
  let largest = 0;
  for (let second = 0; second < MEASURE_S; second++) {
    largest = Math.max(largest, rssMiBOf(pid));
    await sleep(1000);
  }
  const percent = round(((cpuOf(pid) - before) / MEASURE_S) * 100, 2);
  const cpu = { name: `idle ${name}, CPU`, value: percent, unit: "% of a core" };
  return [
    below({ name: `idle ${name}, memory`, value: round(largest, 1), unit: "MiB" }, bar.memoryMiB),
    bar.cpuPercent === undefined ? cpu : below(cpu, bar.cpuPercent),
  ];
}
