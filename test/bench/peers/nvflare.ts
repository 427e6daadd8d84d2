/**
 * NVIDIA FLARE as its POC command provisions it: real processes, mutual TLS, its own FedAvg recipe for NumPy, which carries one array.
 * Server = server parent and job process. Round times come from the job's log.
 */
import { execFileSync } from "node:child_process";
import { copyFile, glob, mkdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { PARTICIPANTS, PAYLOAD_BYTES, ROUNDS } from "../payload.ts";
import { ProcessGroup } from "../processes.ts";
import { PEERS, peerEnvironment } from "./environment.ts";
import type { PeerRun } from "./peer-run.ts";

const LIMIT_MS = 240_000;
const COLUMNS = 4096;

function roleOf(command: string): string {
  if (/server_train|runner_process/.test(command)) return "server";
  if (/client_train|worker_process|client\.py/.test(command)) return "client";
  return "other";
}

export async function runNvflare(folder: string): Promise<PeerRun> {
  const bin = await peerEnvironment("nvflare");
  const workspace = join(folder, "poc");
  await mkdir(folder, { recursive: true });
  await rm(workspace, { recursive: true, force: true });
  const env = { PATH: `${bin}:${process.env.PATH}`, NVFLARE_POC_WORKSPACE: workspace };
  execFileSync(join(bin, "nvflare"), ["poc", "prepare", "-n", String(PARTICIPANTS)], {
    env: { ...process.env, ...env },
    stdio: "ignore",
  });
  const production = await provisioned(workspace);
  const group = new ProcessGroup(roleOf);
  const start = (name: string, command: string, args: string[]) =>
    group.start(command, args, { env, cwd: folder, log: join(folder, `${name}.log`) });
  try {
    for (const site of ["server", ...Array.from({ length: PARTICIPANTS }, (_, i) => `site-${i + 1}`)]) {
      start(site, "bash", [join(production, site, "startup/sub_start.sh")]);
    }
    const rows = PAYLOAD_BYTES / 4 / COLUMNS;
    const script = join(import.meta.dirname, "nvflare/job.py");
    const numbers = [ROUNDS, PARTICIPANTS, rows, COLUMNS].map(String);
    start("job", join(bin, "python"), [script, join(production, "admin@nvidia.com"), folder, ...numbers]);
    const log = await finished(folder, join(production, "server"));
    group.sample();
    return {
      title: PEERS.nvflare.title,
      seconds: secondsPerRound(log),
      server: group.usage("server"),
      cpuSeconds: group.cpuSeconds(),
    };
  } finally {
    await group.end();
  }
}

/** @returns the folder with a start-up kit per site */
export async function provisioned(workspace: string): Promise<string> {
  for await (const folder of glob(join(workspace, "*/prod_00"))) return folder;
  throw new Error("FLARE's poc command provisioned nothing");
}

/** The job's folder on the server goes away with the job: its log is copied while it lasts. */
async function finished(folder: string, server: string): Promise<string> {
  const copy = join(folder, "server-job.log");
  const deadline = Date.now() + LIMIT_MS;
  while (Date.now() < deadline) {
    const said = await readFile(join(folder, "job.log"), "utf8").catch(() => "");
    const job = /^JOB (\S+)$/m.exec(said)?.[1];
    if (job !== undefined) await copyFile(join(server, job, "log.txt"), copy).catch(() => undefined);
    if (said.includes("FINISHED:COMPLETED")) return await readFile(copy, "utf8");
    if (/^STATUS/m.test(said)) throw new Error(`FLARE's job did not complete; its logs lie in ${folder}`);
    await sleep(100);
  }
  throw new Error(`FLARE did not finish within ${LIMIT_MS / 1000} s; its logs lie in ${folder}`);
}

/** "Round 3 started." stands below or in a line that begins with its time. */
function secondsPerRound(log: string): number[] {
  const edges: number[] = [];
  let at = Number.NaN;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: FLARE colours its log.
  for (const line of log.replaceAll(/\x1b\[[0-9;]*m/g, "").split("\n")) {
    const stamp = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d),(\d{3})/.exec(line);
    if (stamp !== null) at = Date.parse(`${stamp[1]}T${stamp[2]}.${stamp[3]}`) / 1000;
    if (/Round \d+ started\./.test(line) || /Finished FedAvg\./.test(line)) edges.push(at);
  }
  if (edges.length !== ROUNDS + 1) throw new Error(`FLARE's log shows ${edges.length - 1} rounds`);
  return edges.slice(1).map((edge, i) => edge - edges[i]!);
}
