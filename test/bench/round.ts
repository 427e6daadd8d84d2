/**
 * Seconds and memory per federated round of 20 MiB adapters with five participants that train nothing: Rondo with secure aggregation and
 * with a trusted operator, Flower's deployment engine with SecAgg+ and without, NVIDIA FLARE; one after the other on the same machine in
 * the same run. Fresh random values everywhere, TLS everywhere.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Benchmark } from "./main.ts";
import { PARTICIPANTS, PAYLOAD_BYTES, ROUNDS, SECAGG_PLUS_ROUNDS, TENSORS } from "./payload.ts";
import { runFlower } from "./peers/flower.ts";
import { runNvflare } from "./peers/nvflare.ts";
import type { PeerRun } from "./peers/peer-run.ts";
import { against, median, type Result, round, timesFaster } from "./report.ts";
import { type RondoRun, runRondo } from "./rondo-rounds.ts";

/** Of a secure round, compared with a round of Flower's SecAgg+. */
const TIMES_SECAGG_PLUS = 10;

export const run: Benchmark = async () => {
  const folder = await mkdtemp(join(tmpdir(), "rondo-bench-round-"));
  const said = <T extends PeerRun>(peer: T): T => {
    console.log(
      `${peer.title}: ${peer.seconds.map((s) => s.toFixed(2)).join(" ")} s a round, server ${peer.server.peakRssMiB.toFixed(0)} MiB`,
    );
    return peer;
  };
  // Those that are close run twice, in mirrored order, so that a machine that becomes busier or quieter favours none.
  const secureFirst = said(await runRondo(join(folder, "secure-1"), "secure"));
  const trustedFirst = said(await runRondo(join(folder, "trusted-1"), "trusted"));
  const nvflareFirst = said(await runNvflare(join(folder, "nvflare-1")));
  const nvflareSecond = said(await runNvflare(join(folder, "nvflare-2")));
  const trustedSecond = said(await runRondo(join(folder, "trusted-2"), "trusted"));
  const secureSecond = said(await runRondo(join(folder, "secure-2"), "secure"));
  const flower = [
    said(await runFlower(join(folder, "flower-1"), { tensors: 1 })),
    said(await runFlower(join(folder, "flower-80"), { tensors: TENSORS })),
  ];
  const secAggPlus = [
    said(await runFlower(join(folder, "secagg-1"), { tensors: 1, secure: { rounds: SECAGG_PLUS_ROUNDS } })),
    said(await runFlower(join(folder, "secagg-80"), { tensors: TENSORS, secure: { rounds: SECAGG_PLUS_ROUNDS } })),
  ];
  await rm(folder, { recursive: true, force: true });

  const nvflare = pooled(nvflareFirst, nvflareSecond);
  const plain = [nvflare, ...flower.map((each) => pooled(each))];
  const secure = rondoOf(secureFirst, secureSecond);
  const trusted = rondoOf(trustedFirst, trustedSecond);
  return {
    results: [
      ...results("secure", secure, plain),
      ...secAggPlus.map((peer) =>
        timesFaster(wholeRound("secure", secure), peer.title, steady(pooled(peer)), TIMES_SECAGG_PLUS),
      ),
      ...results("trusted", trusted, plain),
    ],
    notes: notes(),
  };
};

function results(mode: string, rondo: Rondo, peers: Pooled[]): Result[] {
  const memory = { name: `${mode}: server, peak memory`, value: round(rondo.peakRssMiB, 0), unit: "MiB" };
  const first = { name: `${mode}: first round`, value: round(rondo.first, 2), unit: "s" };
  const ending = round(median(rondo.endingSeconds), 2);
  return [
    ...peers.map((peer) => against(wholeRound(mode, rondo), peer.title, steady(peer))),
    { name: `${mode}: last contribution to Succeeded (median)`, value: ending, unit: "s" },
    ...peers.map((peer) => against(memory, peer.title, round(peer.peakRssMiB, 0))),
    { ...first, peer: peers[0]!.title, peerValue: round(peers[0]!.first, 2) },
    ...Object.entries(rondo.phases).map(([phase, seconds]) => ({
      name: `${mode}: phase ${phase} (median)`,
      value: round(median(seconds), 2),
      unit: "s",
    })),
    ...peers.map((peer) => cpu(mode, rondo, peer)),
  ];
}

function wholeRound(mode: string, rondo: Pooled) {
  return { name: `${mode}: whole round (median, first left out)`, value: steady(rondo), unit: "s" };
}

/** Several runs of one contender: the steady rounds of all of them, and the larger memory. */
interface Pooled extends Pick<PeerRun, "title"> {
  first: number;
  steady: number[];
  peakRssMiB: number;
  /** Of one run. */
  cpuSeconds: number;
}

function pooled(...runs: PeerRun[]): Pooled {
  return {
    title: runs[0]!.title,
    first: median(runs.map(({ seconds }) => seconds[0]!)),
    steady: runs.flatMap(({ seconds }) => seconds.slice(1)),
    peakRssMiB: Math.max(...runs.map(({ server }) => server.peakRssMiB)),
    cpuSeconds: median(runs.map(({ cpuSeconds }) => cpuSeconds)),
  };
}

type Rondo = Pooled & ReturnType<typeof pooledPhases>;

function rondoOf(...runs: RondoRun[]): Rondo {
  return { ...pooled(...runs), ...pooledPhases(...runs) };
}

function pooledPhases(...runs: RondoRun[]): { endingSeconds: number[]; phases: Record<string, number[]> } {
  const names = Object.keys(runs[0]!.phases);
  return {
    endingSeconds: runs.flatMap(({ endingSeconds }) => endingSeconds),
    phases: Object.fromEntries(names.map((name) => [name, runs.flatMap(({ phases }) => phases[name] ?? [])])),
  };
}

/** The first round of each contender also pays for starting up what later rounds have. */
function steady(peer: Pooled): number {
  return round(median(peer.steady), 2);
}

function cpu(mode: string, rondo: Pooled, peer: Pooled): Result {
  const value = round(rondo.cpuSeconds, 1);
  const peerValue = round(peer.cpuSeconds, 1);
  const name = `${mode}: CPU of all own processes, ${ROUNDS} rounds`;
  return { name, value, unit: "s", peer: peer.title, peerValue, ratio: round(value / peerValue, 2) };
}

function notes(): string[] {
  return [
    `${PARTICIPANTS} participants, ${ROUNDS} rounds, ${PAYLOAD_BYTES} bytes of fresh float32 to and from each in each round.`,
    "Rondo and FLARE run twice (secure, trusted, FLARE, FLARE, trusted, secure), each from scratch; medians over the rounds of both runs",
    `without their first. SecAgg+ runs for ${SECAGG_PLUS_ROUNDS} rounds, at the threshold that Rondo's plan has for five members (4).`,
    "In secure rounds five members mask against each other: keys, shares, masked vectors, consistency, unmasking, each step journalled.",
    "Rondo: operator and agents from the image's bundle, kube-apiserver with etcd and controllers, docker-registry; a stand-in for",
    "kubelet and trainer answers at once. Each round ends with the adapter pushed to the registry; the peers keep theirs in memory.",
    "A round of Rondo: first to last entry of status.phaseTimes. Flower: its FedAvg's configure_train to the end of aggregate_train.",
    'FLARE: from one "Round n started" of its log to the next. Server memory: largest sum of resident memory of operator |',
    "superlink and serverapp | server parent and job, sampled every 200 ms. API server, registry and stand-in are not in it nor in the CPU.",
  ];
}
