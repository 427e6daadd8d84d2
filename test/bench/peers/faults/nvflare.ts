/**
 * The faults with NVIDIA FLARE as its POC command provisions it: real processes, mutual TLS, its own FedAvg recipe, every time limit as
 * provisioned. min_clients of the job is four; the workflow asks all five.
 */
import { execFileSync } from "node:child_process";
import { copyFile, mkdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ProcessGroup } from "../../processes.ts";
import { PEERS, peerEnvironment } from "../environment.ts";
import { provisioned } from "../nvflare.ts";
import { cut } from "./cut.ts";
import { part } from "./marked.ts";
import {
  type Contender,
  FAULT_ROUND,
  FAULTS,
  type Fault,
  type FaultRun,
  inflict,
  MINIMUM,
  ROUNDS,
  SITES,
  TRAINING_S,
} from "./scenario.ts";
import { telling } from "./telling.ts";

const PORT = 8002;
/** A dead site is known after its heartbeat's 600 s and a grace of 60 s; of a server one hears sooner. */
const watchMs = (fault: Fault) => (fault.startsWith("killed") ? 780_000 : 300_000);

export async function faultWithNvflare(fault: Fault, folder: string): Promise<FaultRun> {
  const bin = await peerEnvironment("nvflare");
  const workspace = join(folder, "poc");
  const marks = join(folder, "marks");
  await rm(workspace, { recursive: true, force: true });
  await mkdir(marks, { recursive: true });
  const own = { PATH: `${bin}:${process.env.PATH}`, NVFLARE_POC_WORKSPACE: workspace };
  execFileSync(join(bin, "nvflare"), ["poc", "prepare", "-n", String(SITES)], {
    env: { ...process.env, ...own },
    stdio: "ignore",
  });
  const kits = await provisioned(workspace);
  const group = new ProcessGroup(() => "all");
  const start = (name: string, command: string, args: string[], env: Record<string, string> = {}) =>
    group.start(command, args, { env: { ...own, ...env }, cwd: folder, log: join(folder, `${name}.log`) });
  const startKit = (name: string, env: Record<string, string>) =>
    start(name, "bash", [join(kits, name, "startup/sub_start.sh")], env);
  const server = part();
  const victim = part();
  const contender: Contender = {
    marks,
    killSite: () => void victim.kill(),
    startSite: async () => void startKit("site-1", victim.env),
    killServer: () => void server.kill(),
    startServer: async () => void startKit("server", server.env),
    cutServer: () => cut({ port: PORT }),
  };
  try {
    startKit("server", server.env);
    for (let site = 1; site <= SITES; site++) startKit(`site-${site}`, site === 1 ? victim.env : {});
    const told = `--fault ${fault} --marks ${marks} --seconds ${TRAINING_S} --fault-round ${FAULT_ROUND}`;
    const numbers = [SITES, MINIMUM, ROUNDS].map(String);
    const job = [join(import.meta.dirname, "nvflare/job.py"), join(kits, "admin@nvidia.com"), folder, ...numbers, told];
    start("job", join(bin, "python"), job);
    const copying = setInterval(() => void keepLog(folder, join(kits, "server")), 500);
    try {
      const atMs = await inflict(fault, contender);
      while (Date.now() < atMs + watchMs(fault) && !/FINISHED/.test((await said(folder)).status)) await sleep(1000);
      const watchedSeconds = Math.round((Date.now() - atMs) / 1000);
      await sleep(8000); // the model is downloaded
      await keepLog(folder, join(kits, "server"));
      const { status, nonFinite } = await said(folder);
      const rounds = roundsOf(await readFile(join(folder, "server-job.log"), "utf8").catch(() => ""));
      const seen = [
        ...(await telling(join(folder, "server-job.log"))),
        ...(await telling(join(kits, "server/log.txt"))),
      ];
      return {
        system: PEERS.nvflare.title,
        fault: FAULTS[fault],
        outcome: status,
        ...rounds,
        ...(nonFinite !== undefined && { nonFinite }),
        watchedSeconds,
        seen,
      };
    } finally {
      clearInterval(copying);
    }
  } finally {
    await group.end();
  }
}

/** The job's folder on the server goes away with the job: its log is copied while it lasts. */
async function keepLog(folder: string, server: string): Promise<void> {
  const { job } = await said(folder);
  if (job !== undefined)
    await copyFile(join(server, job, "log.txt"), join(folder, "server-job.log")).catch(() => undefined);
}

async function said(folder: string): Promise<{ job?: string; status: string; nonFinite?: number }> {
  const text = await readFile(join(folder, "job.log"), "utf8").catch(() => "");
  const lines = text.split("\n").filter((line) => line.startsWith("{"));
  const all = Object.assign({ status: "not submitted" }, ...lines.map((line) => JSON.parse(line) as object));
  return all as { job?: string; status: string; nonFinite?: number };
}

/** "Round 1 started." stands below or in a line that begins with its time; rounds count from 0. */
function roundsOf(log: string): Pick<FaultRun, "roundsDone" | "roundSeconds" | "counted"> {
  const edges: number[] = [];
  let counted: number | undefined;
  let at = Number.NaN;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: FLARE colours its log.
  for (const line of log.replaceAll(/\x1b\[[0-9;]*m/g, "").split("\n")) {
    const stamp = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d),(\d{3})/.exec(line);
    if (stamp !== null) at = Date.parse(`${stamp[1]}T${stamp[2]}.${stamp[3]}`) / 1000;
    if (/Round \d+ started\./.test(line) || /Finished FedAvg\./.test(line)) edges.push(at);
    const aggregated = /[Aa]ggregat\w* (\d+)(?:\/\d+)? (?:result|update)/.exec(line);
    if (aggregated !== null && edges.length === FAULT_ROUND) counted = Number(aggregated[1]);
  }
  const [begun, end] = [edges[FAULT_ROUND - 1], edges[FAULT_ROUND]];
  return {
    roundsDone: Math.max(0, edges.length - 1),
    ...(begun !== undefined && end !== undefined && { roundSeconds: Math.round(end - begun) }),
    ...(counted !== undefined && { counted }),
  };
}
