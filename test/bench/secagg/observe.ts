/** What a measured process sees of itself: memory above idle, and how long its event loop was held up. Linux: it reads /proc. */
import { readFileSync, writeFileSync } from "node:fs";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";

export interface Observed<T> {
  result: T;
  seconds: number;
  /** Largest resident memory during the work, above that of the process before its first work. */
  aboveIdleMiB: number;
  eventLoopP99Ms: number;
}

const SETTLE_MS = 1000;
/** The timer whose lateness is the delay fires so often; an idle loop shows about as much. */
const RESOLUTION_MS = 1;
let idleMiB: number | undefined;

export async function observed<T>(work: () => Promise<T>): Promise<Observed<T>> {
  if (idleMiB === undefined) {
    await sleep(SETTLE_MS);
    idleMiB = statusMiB("VmRSS");
  }
  writeFileSync("/proc/self/clear_refs", "5"); // the high-water mark begins anew
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delay.enable();
  const start = performance.now();
  const result = await work();
  const seconds = (performance.now() - start) / 1000;
  delay.disable();
  return {
    result,
    seconds,
    aboveIdleMiB: statusMiB("VmHWM") - idleMiB,
    eventLoopP99Ms: delay.percentile(99) / 1e6,
  };
}

function statusMiB(field: string): number {
  const status = readFileSync("/proc/self/status", "latin1");
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(status)?.[1]) / 1024;
}
