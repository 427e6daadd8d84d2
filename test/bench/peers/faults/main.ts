/**
 * `make peer-faults`: the same faults to Flower, NVIDIA FLARE and Rondo, one run after the other; prints what was seen and adds it to
 * `.rondo/bench/peer-faults.json`. Arguments choose: `main.ts flower nan serverCut`. Needs root: it runs in a network namespace of its own.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { peerEnvironment } from "../environment.ts";
import { FAULTS, type Fault, type FaultRun } from "./scenario.ts";

const SYSTEMS: Record<string, () => Promise<(fault: Fault, folder: string) => Promise<FaultRun>>> = {
  flower: async () => (await import("./flower.ts")).faultWithFlower,
  nvflare: async () => (await import("./nvflare.ts")).faultWithNvflare,
  rondo: async () => (await import("./rondo.ts")).faultWithRondo,
};
const INSIDE = "RONDO_FAULTS_NETWORK";
const REPORT = join(import.meta.dirname, "../../../../.rondo/bench/peer-faults.json");

const args = process.argv.slice(2);
const unknown = args.filter((arg) => !Object.hasOwn(SYSTEMS, arg) && !Object.hasOwn(FAULTS, arg));
if (unknown.length > 0) {
  console.error(
    `There is no ${unknown.join(", ")}; there are ${[...Object.keys(SYSTEMS), ...Object.keys(FAULTS)].join(", ")}.`,
  );
  process.exit(2);
}
const systems = chosen(Object.keys(SYSTEMS));
const faults = chosen(Object.keys(FAULTS)) as Fault[];

if (process.env[INSIDE] === undefined) {
  // From PyPI, as long as there is a network.
  for (const system of systems) if (system === "flower" || system === "nvflare") await peerEnvironment(system);
  const again = `ip link set lo up && exec "$0" "$@"`;
  const { status } = spawnSync(
    "unshare",
    ["--net", "sh", "-c", again, process.execPath, import.meta.filename, ...args],
    {
      stdio: "inherit",
      env: { ...process.env, [INSIDE]: "own" },
    },
  );
  process.exit(status ?? 1);
}

for (const system of systems) {
  const run = await SYSTEMS[system]!();
  for (const fault of faults) {
    const folder = mkdtempSync(join(tmpdir(), `rondo-faults-${system}-`));
    const begun = new Date().toISOString();
    try {
      const seen = await run(fault, folder);
      console.log(JSON.stringify(seen, null, 2));
      add({ ...seen, begun, load1: loadavg()[0]! });
      if (process.env.KEEP === undefined) rmSync(folder, { recursive: true, force: true });
    } catch (error) {
      console.error(`${system}, ${fault}: ${(error as Error).message}; its logs lie in ${folder}`);
      process.exitCode = 1;
    }
  }
}
process.exit();

function chosen(names: string[]): string[] {
  const some = names.filter((name) => args.includes(name));
  return some.length > 0 ? some : names;
}

/** One entry per system and fault: the latest. */
function add(seen: FaultRun & { begun: string; load1: number }): void {
  mkdirSync(join(REPORT, ".."), { recursive: true });
  const before = existsSync(REPORT) ? (JSON.parse(readFileSync(REPORT, "utf8")) as FaultRun[]) : [];
  const others = before.filter(({ system, fault }) => system !== seen.system || fault !== seen.fault);
  writeFileSync(REPORT, `${JSON.stringify([...others, seen], null, 2)}\n`);
}
