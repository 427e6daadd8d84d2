/**
 * The faults with Flower's deployment engine as its documentation sets it up: a superlink with TLS and a database file, a supernode per
 * site, `flwr run`; its own FedAvg with min_train_nodes and min_available_nodes of four; every time limit as Flower has it.
 */
import { execFile } from "node:child_process";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { ProcessGroup } from "../../processes.ts";
import { PEERS, peerEnvironment } from "../environment.ts";
import { makeCertificates, portOpens } from "../flower.ts";
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

const PORT = 29_092;
/** Where sites find the superlink: an address of its own, so that cutting it off leaves the server's own processes together. */
const ADDRESS = `127.0.0.2:${PORT}`;
const WATCH_MS = 300_000;

interface RoundEvent {
  at: number;
  event: "begun" | "ended" | "finished";
  round?: number;
  replies?: number;
  errors?: string[];
  nonFinite?: number | null;
}

export async function faultWithFlower(fault: Fault, folder: string): Promise<FaultRun> {
  const bin = await peerEnvironment("flower");
  const marks = join(folder, "marks");
  for (const each of ["home", "marks"]) await mkdir(join(folder, each), { recursive: true });
  const certificates = makeCertificates(folder);
  const log = join(folder, "rounds.jsonl");
  await writeFile(log, "");
  await writeFile(
    join(folder, "home/config.toml"),
    `[superlink]\ndefault = "faults"\n[superlink.faults]\naddress = "127.0.0.1:${PORT}"\nroot-certificates = "${certificates}/ca.crt"\n`,
  );
  const group = new ProcessGroup(() => "all");
  const own = { PATH: `${bin}:${process.env.PATH}`, FLWR_HOME: join(folder, "home"), FLWR_TELEMETRY_ENABLED: "0" };
  const start = (name: string, program: string, args: string[], env: Record<string, string> = {}) =>
    group.start(join(bin, program), args, { env: { ...own, ...env }, cwd: folder, log: join(folder, `${name}.log`) });
  const server = part();
  const victim = part();
  const startServer = async () => {
    const tls = ["--ssl-certfile", "server.crt", "--ssl-keyfile", "server.key", "--ssl-ca-certfile", "ca.crt"];
    const args = ["--disable-runtime-dependency-installation", "--host", "0.0.0.0", "--port", String(PORT), ...tls];
    start("superlink", "flower-superlink", [...args, "--database", join(folder, "state.db")], server.env);
    await portOpens(PORT);
  };
  const startSite = (site: number) => {
    const args = ["--superlink", ADDRESS, "--port", String(PORT + site), "--root-certificates", "ca.crt"];
    const config = `partition-id=${site - 1} num-partitions=${SITES}`;
    start(`site-${site}`, "flower-supernode", [...args, "--node-config", config], site === 1 ? victim.env : {});
  };
  const contender: Contender = {
    marks,
    killSite: () => void victim.kill(),
    startSite: async () => startSite(1),
    killServer: () => void server.kill(),
    startServer,
    cutServer: () => cut({ address: "127.0.0.2" }),
  };
  try {
    await startServer();
    for (let site = 1; site <= SITES; site++) startSite(site);
    const told = `num-rounds=${ROUNDS} fault-round=${FAULT_ROUND} minimum=${MINIMUM} log='${log}' marks='${marks}' fault='${fault}' seconds='${TRAINING_S}'`;
    start("console", "flwr", ["run", join(import.meta.dirname, "flower"), "faults", "--run-config", told, "--stream"]);
    const atMs = await inflict(fault, contender);
    const list = () => runs(join(bin, "flwr"), own);
    while (Date.now() < atMs + WATCH_MS && !/finished/.test(await list())) await sleep(3000);
    const outcome = await list();
    const watchedSeconds = Math.round((Date.now() - atMs) / 1000);
    const events = (await readFile(log, "utf8"))
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as RoundEvent);
    return {
      system: PEERS.flower.title,
      fault: FAULTS[fault],
      outcome,
      ...counted(events),
      watchedSeconds,
      seen: await seen(folder, events),
    };
  } finally {
    await group.end();
  }
}

function counted(events: RoundEvent[]): Pick<FaultRun, "roundsDone" | "roundSeconds" | "counted" | "nonFinite"> {
  const ended = events.filter(({ event }) => event === "ended");
  const begun = events.find(({ event, round }) => event === "begun" && round === FAULT_ROUND);
  const end = ended.find(({ round }) => round === FAULT_ROUND);
  const nonFinite = ended.at(-1)?.nonFinite;
  return {
    roundsDone: ended.length,
    ...(begun && end && { roundSeconds: Math.round(end.at - begun.at) }),
    ...(end?.replies !== undefined && { counted: end.replies }),
    ...(typeof nonFinite === "number" && { nonFinite }),
  };
}

/** @returns the run's own status: "finished:completed", "running" */
async function runs(flwr: string, env: Record<string, string>): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)(flwr, ["list", "faults", "--format", "json"], {
      env: { ...process.env, ...env },
      timeout: 30_000,
    });
    const run = (JSON.parse(stdout) as { runs?: Array<Record<string, unknown>> }).runs?.[0];
    return String(run?.status ?? "no run");
  } catch (error) {
    return `(no answer: ${(error as Error).message.split("\n")[0]!.slice(0, 80)})`;
  }
}

async function seen(folder: string, events: RoundEvent[]): Promise<string[]> {
  const errors = events.flatMap(({ round, errors = [] }) => errors.map((error) => `round ${round}: ${error}`));
  return [
    ...errors,
    ...(await telling(join(folder, "console.log"))),
    ...(await telling(join(folder, "superlink.log"))),
  ];
}
