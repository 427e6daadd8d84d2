/** How fast one core does the arithmetic of aggregation, in bytes of float32 deltas per second, over chunks of 1 MiB. */
import { addMean } from "../../operator/aggregation/candidate.ts";
import { scale, squaredNorm } from "../../operator/aggregation/clip.ts";
import { subtract } from "../../operator/aggregation/delta.ts";
import { countNonFinite } from "../../operator/aggregation/finite.ts";
import { addWeighted } from "../../operator/aggregation/rules/mean.ts";
import type { Benchmark } from "./main.ts";
import { above, median, type Result, round } from "./report.ts";

const VALUES = 5 << 20; // 20 MiB, the adapter of the other benchmarks
const CHUNK = 1 << 18;
const REPEATS = 15;

export const run: Benchmark = async () => {
  const deltas = Float32Array.from({ length: VALUES }, () => Math.random() - 0.5);
  const parent = deltas.slice();
  const out = deltas.slice();
  const sum = new Float64Array(VALUES);
  const chunkOf = (values: Float32Array, at: number) => values.subarray(at, at + CHUNK);
  const results = [
    // Every contribution goes through this one; the others happen once per round or at the site.
    above(
      measure("sum += weight · delta", (at) => addWeighted(sum, at, chunkOf(deltas, at), 200)),
      1,
    ),
    measure("trained − parent, finite", (at) => subtract(chunkOf(deltas, at), chunkOf(parent, at), chunkOf(out, at))),
    measure("squared norm", (at) => squaredNorm(chunkOf(deltas, at))),
    measure("scale to the clip", (at) => scale(chunkOf(out, at), 0.999)),
    measure("finite scan", (at) => countNonFinite(chunkOf(deltas, at))),
    measure("parent + mean, finite", (at) =>
      addMean(chunkOf(parent, at), { sum, at, totalWeight: 1000 }, chunkOf(out, at)),
    ),
  ];
  return { results, notes: [`Median of ${REPEATS} passes over ${VALUES * 4} bytes, one thread.`] };
};

function measure(name: string, step: (at: number) => unknown): Result {
  const seconds: number[] = [];
  for (let repeat = 0; repeat < REPEATS; repeat++) {
    const start = performance.now();
    for (let at = 0; at < VALUES; at += CHUNK) step(at);
    seconds.push((performance.now() - start) / 1000);
  }
  return { name, value: round((VALUES * 4) / median(seconds) / 1e9, 2), unit: "GB/s" };
}
