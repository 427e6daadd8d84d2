/**
 * Seconds and memory per federated round of 20 MiB adapters with five participants that train nothing: Rondo, Flower's deployment engine
 * and NVIDIA FLARE, one after the other on the same machine in the same run. Fresh random values everywhere, TLS everywhere.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Benchmark } from "./main.ts";
import { PARTICIPANTS, PAYLOAD_BYTES, ROUNDS, TENSORS } from "./payload.ts";
import { runFlower } from "./peers/flower.ts";
import { runNvflare } from "./peers/nvflare.ts";
import type { PeerRun } from "./peers/peer-run.ts";
import { against, median, type Result, round } from "./report.ts";
import { type RondoRun, runRondo } from "./rondo-rounds.ts";

export const run: Benchmark = async () => {
  const folder = await mkdtemp(join(tmpdir(), "rondo-bench-round-"));
  const said = <T extends PeerRun>(peer: T): T => {
    console.log(
      `${peer.title}: ${peer.seconds.map((s) => s.toFixed(2)).join(" ")} s a round, server ${peer.server.peakRssMiB.toFixed(0)} MiB`,
    );
    return peer;
  };
  // The two that are close run twice, in mirrored order, so that a machine that becomes busier or quieter favours neither.
  const rondoFirst = said(await runRondo(join(folder, "rondo-1")));
  const nvflareFirst = said(await runNvflare(join(folder, "nvflare-1")));
  const nvflareSecond = said(await runNvflare(join(folder, "nvflare-2")));
  const rondoSecond = said(await runRondo(join(folder, "rondo-2")));
  const flower = [
    said(await runFlower(join(folder, "flower-1"), 1)),
    said(await runFlower(join(folder, "flower-80"), TENSORS)),
  ];
  const rondo = { ...pooled(rondoFirst, rondoSecond), ...pooledPhases(rondoFirst, rondoSecond) };
  const peers = [pooled(nvflareFirst, nvflareSecond), ...flower.map((run) => pooled(run))];
  await rm(folder, { recursive: true, force: true });

  const perRound = { name: "whole round (median, first left out)", value: steady(rondo), unit: "s" };
  const first = { name: "first round", value: round(rondo.first, 2), unit: "s" };
  const memory = { name: "server, peak memory", value: round(rondo.peakRssMiB, 0), unit: "MiB" };
  const results: Result[] = [
    { name: "last contribution to Succeeded (median)", value: round(median(rondo.endingSeconds), 2), unit: "s" },
    ...peers.map((peer) => against(perRound, peer.title, steady(peer))),
    ...peers.map((peer) => against(memory, peer.title, round(peer.peakRssMiB, 0))),
    { ...first, peer: peers[0]!.title, peerValue: round(peers[0]!.first, 2) },
    ...Object.entries(rondo.phases).map(([phase, seconds]) => ({
      name: `phase ${phase} (median)`,
      value: round(median(seconds), 2),
      unit: "s",
    })),
    ...peers.map((peer) => cpu(rondo, peer)),
  ];
  return { results, notes: notes() };
};

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

function cpu(rondo: Pooled, peer: Pooled): Result {
  const value = round(rondo.cpuSeconds, 1);
  const peerValue = round(peer.cpuSeconds, 1);
  const name = `CPU of all own processes, ${ROUNDS} rounds`;
  return { name, value, unit: "s", peer: peer.title, peerValue, ratio: round(value / peerValue, 2) };
}

function notes(): string[] {
  return [
    `${PARTICIPANTS} participants, ${ROUNDS} rounds, ${PAYLOAD_BYTES} bytes of fresh float32 to and from each in each round.`,
    "Rondo and FLARE run twice (Rondo, FLARE, FLARE, Rondo), each from scratch; medians over the rounds of both runs without their first.",
    "Rondo: operator and agents from the image's bundle, kube-apiserver with etcd and controllers, docker-registry; a stand-in for",
    "kubelet and trainer answers at once. Each round ends with the adapter pushed to the registry; the peers keep theirs in memory.",
    "A round of Rondo: first to last entry of status.phaseTimes. Flower: its FedAvg's configure_train to the end of aggregate_train.",
    'FLARE: from one "Round n started" of its log to the next. Server memory: largest sum of resident memory of operator |',
    "superlink and serverapp | server parent and job, sampled every 200 ms. API server, registry and stand-in are not in it nor in the CPU.",
  ];
}
