/**
 * Flower's deployment engine: one superlink with TLS, a supernode per participant, `flwr run`; rounds as Flower's own FedAvg sees them.
 * Server = superlink and serverapp.
 */
import { execFileSync } from "node:child_process";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { PARTICIPANTS, PAYLOAD_BYTES, ROUNDS } from "../payload.ts";
import { ProcessGroup } from "../processes.ts";
import { PEERS, peerEnvironment } from "./environment.ts";
import type { PeerRun } from "./peer-run.ts";

const PORT = 29_092;
const LIMIT_MS = 600_000;

function roleOf(command: string): string {
  if (/flower-superlink|flwr-serverapp|flower-superexec.*serverapp/.test(command)) return "server";
  if (/flower-supernode|flwr-clientapp/.test(command)) return "client";
  return "other";
}

export interface FlowerSetup {
  /** How many arrays the payload is cut into. */
  tensors: number;
  /** Flower's SecAgg+ around its FedAvg. */
  secure?: { rounds: number };
}

export async function runFlower(folder: string, { tensors, secure }: FlowerSetup): Promise<PeerRun> {
  const bin = await peerEnvironment("flower");
  await mkdir(join(folder, "home"), { recursive: true });
  const certificates = makeCertificates(folder);
  const log = join(folder, "rounds.jsonl");
  await writeFile(log, "");
  const address = `localhost:${PORT}`;
  await writeFile(
    join(folder, "home/config.toml"),
    `[superlink]\ndefault = "bench"\n[superlink.bench]\naddress = "${address}"\nroot-certificates = "${certificates}/ca.crt"\n`,
  );
  const group = new ProcessGroup(roleOf);
  const env = { PATH: `${bin}:${process.env.PATH}`, FLWR_HOME: join(folder, "home"), FLWR_TELEMETRY_ENABLED: "0" };
  const start = (name: string, program: string, args: string[]) =>
    group.start(join(bin, program), args, { env, cwd: folder, log: join(folder, `${name}.log`) });
  try {
    start("superlink", "flower-superlink", [
      "--disable-runtime-dependency-installation",
      ...["--host", "127.0.0.1", "--port", String(PORT), "--ssl-certfile", `${certificates}/server.crt`],
      ...["--ssl-keyfile", `${certificates}/server.key`, "--ssl-ca-certfile", `${certificates}/ca.crt`],
    ]);
    await portOpens(PORT);
    for (let i = 0; i < PARTICIPANTS; i++) {
      start(`supernode-${i}`, "flower-supernode", [
        ...["--superlink", address, "--port", String(PORT + 10 + i), "--root-certificates", `${certificates}/ca.crt`],
        ...["--node-config", `partition-id=${i} num-partitions=${PARTICIPANTS}`],
      ]);
    }
    const columns = PAYLOAD_BYTES / 4 / tensors / 8;
    const config = `num-rounds=${secure?.rounds ?? ROUNDS} clients=${PARTICIPANTS} tensors=${tensors} columns=${columns} log='${log}'`;
    const app = join(import.meta.dirname, secure ? "flower-secagg" : "flower");
    start("run", "flwr", ["run", app, "bench", "--run-config", config, "--stream"]);
    const events = await finished(log);
    group.sample();
    const seconds = secondsPerRound(events);
    return {
      title: `${PEERS.flower.title}${secure ? " SecAgg+" : ""}, ${tensors === 1 ? "1 tensor" : `${tensors} tensors`}`,
      seconds,
      server: group.usage("server"),
      cpuSeconds: group.cpuSeconds(),
    };
  } finally {
    await group.end();
  }
}

interface RoundEvent {
  at: number;
  event: "begun" | "ended" | "finished";
  round?: number;
  replies?: number;
}

async function finished(log: string): Promise<RoundEvent[]> {
  const deadline = Date.now() + LIMIT_MS;
  while (Date.now() < deadline) {
    const lines = (await readFile(log, "utf8")).split("\n").filter((line) => line !== "");
    const events = lines.map((line) => JSON.parse(line) as RoundEvent);
    if (events.some(({ event }) => event === "finished")) return events;
    await sleep(250);
  }
  throw new Error(`Flower did not finish within ${LIMIT_MS / 1000} s; its logs lie beside ${log}`);
}

function secondsPerRound(events: RoundEvent[]): number[] {
  const ended = events.filter(({ event }) => event === "ended");
  const short = ended.find(({ replies }) => replies !== PARTICIPANTS);
  if (short !== undefined) throw new Error(`Flower's round ${short.round} had ${short.replies} replies`);
  return ended.map(({ at, round }) => at - events.find((e) => e.event === "begun" && e.round === round)!.at);
}

/** For localhost, 127.0.0.1 and 127.0.0.2. @returns the folder */
export function makeCertificates(folder: string): string {
  const openssl = (...args: string[]) => execFileSync("openssl", args, { cwd: folder, stdio: "ignore" });
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  openssl("req", "-x509", ...key, "-subj", "/CN=bench", "-keyout", "ca.key", "-out", "ca.crt", "-days", "2");
  openssl("req", ...key, "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr");
  execFileSync("sh", ["-c", "echo subjectAltName=DNS:localhost,IP:127.0.0.1,IP:127.0.0.2 > names"], { cwd: folder });
  openssl(
    "x509",
    "-req",
    "-in",
    "server.csr",
    "-CA",
    "ca.crt",
    "-CAkey",
    "ca.key",
    "-CAcreateserial",
    "-out",
    "server.crt",
    "-days",
    "2",
    "-extfile",
    "names",
  );
  return folder;
}

export async function portOpens(port: number): Promise<void> {
  const { connect } = await import("node:net");
  for (let tries = 0; tries < 300; tries++) {
    const isOpen = await new Promise<boolean>((resolve) => {
      const socket = connect(port, "127.0.0.1");
      socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
      socket.once("close", () => undefined);
      socket.once("connect", () => socket.destroy());
    });
    if (isOpen) return;
    await sleep(100);
  }
  throw new Error("Flower's superlink did not open its port");
}
