/** What the operator's process takes while something goes on: the largest resident memory that was seen, and its share of one core. */
import { cpuOf, rssMiBOf } from "../processes.ts";

const SAMPLE_MS = 200;
const MB_PER_MIB = 2 ** 20 / 1e6;

export class Observed {
  readonly #pid: number;
  readonly #startedAt = performance.now();
  readonly #cpuBefore: number;
  readonly #timer: NodeJS.Timeout;
  #peakRssMiB = 0;

  constructor(pid: number) {
    this.#pid = pid;
    this.#cpuBefore = cpuOf(pid);
    this.#timer = setInterval(() => this.#sample(), SAMPLE_MS);
  }

  /** MB are 10^6 bytes. */
  end(): { peakRssMb: number; cpuSeconds: number; cpuPercent: number; seconds: number } {
    clearInterval(this.#timer);
    this.#sample();
    const seconds = (performance.now() - this.#startedAt) / 1000;
    const cpuSeconds = cpuOf(this.#pid) - this.#cpuBefore;
    return {
      peakRssMb: this.#peakRssMiB * MB_PER_MIB,
      cpuSeconds,
      cpuPercent: (100 * cpuSeconds) / seconds,
      seconds,
    };
  }

  #sample(): void {
    this.#peakRssMiB = Math.max(this.#peakRssMiB, rssMiBOf(this.#pid));
  }
}
