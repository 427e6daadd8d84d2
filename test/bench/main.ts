/** `make bench NAME=…`: runs one benchmark, prints its table, writes `.rondo/bench/NAME.json`. */
import type { Result } from "./report.ts";
import { writeReport } from "./report.ts";

export type Benchmark = () => Promise<{ results: Result[]; notes: string[] }>;

const BENCHMARKS: Record<string, () => Promise<{ run: Benchmark }>> = {
  kernels: () => import("./kernels.ts"),
  round: () => import("./round.ts"),
  idle: () => import("./idle.ts"),
  secagg: () => import("./secagg/secagg.ts"),
  controlplane: () => import("./controlplane/controlplane.ts"),
  throughput: () => import("./throughput/throughput.ts"),
  startup: () => import("./startup/startup.ts"),
  learning: () => import("./learning/learning.ts"),
};

const name = process.argv[2] ?? "";
const load = Object.hasOwn(BENCHMARKS, name) ? BENCHMARKS[name] : undefined;
if (load === undefined) {
  console.error(`There is no benchmark "${name}"; there are ${Object.keys(BENCHMARKS).join(", ")}.`);
  process.exit(2);
}
const { run } = await load();
const { results, notes } = await run();
writeReport(name, results, notes);
// A bar that is missed fails the command, so that nobody has to read the table to know.
process.exit(results.every(({ met }) => met !== false) ? 0 : 1);
