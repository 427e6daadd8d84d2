/**
 * Secure aggregation at 10 M parameters against the SecAgg+ functions of the published `flwr` package: same machine, same run, each figure
 * the median of 7 taken in turns. Then bytes, accuracy, memory, event loop, and what one core reaches.
 */
import { randomBytes } from "node:crypto";
import { copyFile, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { RING_BYTES, type Ring, vectorLayout } from "../../../operator/secagg/vector.ts";
import type { Benchmark } from "../main.ts";
import { above, below, median, type Result, round } from "../report.ts";
import { accuracyOf } from "./accuracy.ts";
import { bundlePrograms } from "./bundle.ts";
import { METRICS, PARAMETERS, planOf, runCohort, TENSORS, writeDelta } from "./cohort.ts";
import { Flower } from "./flower.ts";
import type { Observed } from "./observe.ts";
import type { UnmaskSeconds } from "./operator-process.ts";
import { Program } from "./program.ts";
import { throughput } from "./throughput.ts";

const REPEATS = 7;
const TIMES_FASTER = 6;
const FLOWER = "flwr 1.42.0";

interface Bench {
  folder: string;
  deltaFile: string;
  programs: Awaited<ReturnType<typeof bundlePrograms>>;
  flower: Flower;
}

export const run: Benchmark = async () => {
  const folder = await mkdtemp(join(tmpdir(), "rondo-bench-secagg-"));
  try {
    await using flower = await Flower.start();
    const bench: Bench = { folder, deltaFile: join(folder, "delta"), programs: await bundlePrograms(), flower };
    await writeDelta(bench.deltaFile);
    const parts: Array<() => Result[] | Promise<Result[]>> = [
      throughputs,
      accuracies,
      ...[10, 32, 64].map((members) => () => masking(bench, members)),
      () => unmasking(bench, 10, 0),
      () => unmasking(bench, 10, 1),
      () => wireAndMemory(bench, "u32", 8),
      () => wireAndMemory(bench, "u32", 32),
      () => wireAndMemory(bench, "u16", 32),
    ];
    const results: Result[] = [];
    for (const part of parts) {
      const some = await part();
      for (const { name, value, unit, peerValue } of some) console.log(name, value, unit, peerValue ?? "");
      results.push(...some);
    }
    return { results, notes: notes() };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
};

async function masking(bench: Bench, members: number): Promise<Result[]> {
  const plan = planOf("u32", members);
  const options = {
    layout: vectorLayout(plan),
    deltaFile: bench.deltaFile,
    weight: 255,
    metrics: METRICS,
    outFile: join(bench.folder, "masked"),
  };
  const ours: Array<Observed<number>> = [];
  const theirs: number[] = [];
  let flowerBytes = 0;
  const question = { do: "masking", clients: members, parameters: PARAMETERS } as const;
  await bench.flower.ask(question);
  await using agent = new Program("agent", bench.programs.agent);
  const keys = () => Array.from({ length: members }, (_, i) => ({ key: randomBytes(32), sign: i % 2 === 0 ? 1 : -1 }));
  await agent.ask({ ...options, keys: keys() });
  for (let i = 0; i < REPEATS; i++) {
    ours.push(await agent.ask({ ...options, keys: keys() }));
    const flower = await bench.flower.ask(question);
    theirs.push(flower.seconds);
    flowerBytes = flower.bytesPerParameter!;
  }
  const name = `masking, n = ${members}`;
  const seconds = { name, value: medianOf(ours, ({ result }) => result), unit: "s" };
  const whole = {
    name: `${name}, threads started and file synced`,
    value: medianOf(ours, (each) => each.seconds),
    unit: "s",
  };
  const flowerSeconds = round(median(theirs), 3);
  const bar = members === 10 ? timesFaster : besides;
  const vectorMiB = options.layout.byteLength / 2 ** 20;
  const memory = Math.max(...ours.map(({ aboveIdleMiB }) => aboveIdleMiB));
  const delay = medianOf(ours, ({ eventLoopP99Ms }) => eventLoopP99Ms, 1);
  return [
    bar(seconds, flowerSeconds),
    besides(whole, flowerSeconds),
    below({ name: `${name}, memory above idle`, value: round(memory, 0), unit: "MiB" }, round(vectorMiB + 64, 0)),
    below({ name: `${name}, event loop delay p99`, value: delay, unit: "ms" }, 50),
    ...(members === 10
      ? [{ name: "bytes per parameter, u32", value: 4, unit: "B", peer: FLOWER, peerValue: round(flowerBytes, 2) }]
      : []),
  ];
}

async function unmasking(bench: Bench, members: number, dropped: number): Promise<Result[]> {
  const folder = join(bench.folder, `unmasking-${members}-${dropped}`);
  await mkdir(folder);
  const { plan, terms, state, inputs } = await runCohort(folder, planOf("u32", members), bench.deltaFile, dropped);
  const request = requestOf(bench, { plan, terms, state, inputs });
  const ours: Array<Observed<UnmaskSeconds>> = [];
  const theirs: number[] = [];
  const theirsAlone: number[] = [];
  const question = { do: "unmasking", clients: members, parameters: PARAMETERS, dropped } as const;
  await bench.flower.ask(question);
  await using operator = new Program("operator", bench.programs.operator);
  await copyFile(bench.deltaFile, request.parentFile);
  await operator.ask(request);
  for (let i = 0; i < REPEATS; i++) {
    ours.push(await operator.ask(request));
    const flower = await bench.flower.ask(question);
    theirs.push(flower.seconds);
    theirsAlone.push(flower.withoutStrategySeconds!);
  }
  await rm(folder, { recursive: true });
  const of = (pick: (seconds: UnmaskSeconds) => number) => medianOf(ours, ({ result }) => pick(result));
  const name = `unmasking, n = ${members}, ${dropped} dropped`;
  return [
    timesFaster({ name, value: of(({ unmask }) => unmask), unit: "s" }, round(median(theirsAlone), 3)),
    besides(
      {
        name: `${name}, candidate written and synced`,
        value: of(({ unmask, candidate }) => unmask + candidate),
        unit: "s",
      },
      round(median(theirs), 3),
    ),
    { name: `${name}, adding before, per vector`, value: round(of(({ add }) => add) / inputs.length, 3), unit: "s" },
  ];
}

function requestOf(
  bench: Bench,
  session: Pick<Awaited<ReturnType<typeof runCohort>>, "plan" | "terms" | "state" | "inputs">,
) {
  const { plan, terms, state, inputs } = session;
  const scratch = join(bench.folder, "scratch");
  const files = { parentFile: join(bench.folder, "parent"), outFile: join(bench.folder, "candidate") };
  return { options: { plan, terms: [terms], scratch }, state, inputs, ...files };
}

async function wireAndMemory(bench: Bench, ring: Ring, members: number): Promise<Result[]> {
  const folder = join(bench.folder, `memory-${ring}-${members}`);
  await mkdir(folder);
  const session = await runCohort(folder, planOf(ring, members), bench.deltaFile);
  await using operator = new Program("operator", bench.programs.operator);
  await copyFile(bench.deltaFile, join(bench.folder, "parent"));
  const { aboveIdleMiB, eventLoopP99Ms } = await operator.ask<Observed<UnmaskSeconds>>(requestOf(bench, session));
  await rm(folder, { recursive: true });
  const name = `unmasking, n = ${members}, ${ring}`;
  const vectorMiB = session.wire.vectorBytesEach() / 2 ** 20;
  const memory = { name: `${name}, memory above idle`, value: round(aboveIdleMiB, 0), unit: "MiB" };
  const delay = { name: `${name}, event loop delay p99`, value: round(eventLoopP99Ms, 1), unit: "ms" };
  const results = [below(memory, round(2 * vectorMiB + 128, 0)), below(delay, 50)];
  if (members !== 32) return results;
  const content = PARAMETERS * RING_BYTES[ring];
  const overhead = (session.wire.vectorBytesEach() - content + session.wire.protocolBytesEach()) / content;
  const perParameter = round(session.wire.vectorBytesEach() / PARAMETERS, 3);
  results.push({ name: `bytes per parameter, ${ring}, n = ${members}`, value: perParameter, unit: "B" });
  const protocol = { name: `protocol overhead, ${ring}, n = ${members}`, value: round(100 * overhead, 4), unit: "%" };
  results.push(below(protocol, 0.1));
  return results;
}

function accuracies(): Result[] {
  const full = (members: number) => new Array<number>(members).fill(255);
  const uneven = (members: number) => Array.from({ length: members }, (_, i) => 15 + ((i * 97) % 240));
  const results: Result[] = [];
  for (const ring of ["u32", "u16"] as const) {
    for (const members of [10, 64]) {
      for (const weights of [full(members), uneven(members)]) {
        const { ofClip, ofRms, factor } = accuracyOf(ring, weights);
        const says = factor === 1 ? "full weights" : `weights 15 to 254, factor ${round(factor, 2)}`;
        const name = `error of the mean, ${ring}, n = ${members}, ${says}`;
        if (ring === "u32")
          results.push(below({ name, value: Number(ofClip.toPrecision(3)), unit: "of the clip" }, 1e-8));
        else results.push(below({ name, value: Number(ofRms.toPrecision(3)), unit: "of the deltas' RMS" }, 2e-3));
      }
    }
  }
  return results;
}

function throughputs(): Result[] {
  const { openssl, masks, profile } = throughput();
  const whole = 65_536 / masks / 1e3;
  const named = profile.reduce((sum, { microseconds }) => sum + microseconds, 0);
  return [
    {
      ...above({ name: "masks of 32 keys, one thread", value: round(masks, 2), unit: "GB/s" }, 0),
      bar: undefined,
      met: undefined,
    },
    { name: "openssl speed, AES-256-CTR, one thread", value: round(openssl, 2), unit: "GB/s" },
    { name: "fraction of openssl speed", value: round((100 * masks) / openssl, 0), unit: "%" },
    { name: "64 KiB of one key: AES alone, as openssl", value: round(65_536 / openssl / 1e3, 2), unit: "µs" },
    ...profile.map(({ part, microseconds }) => ({
      name: `64 KiB of one key: ${part}`,
      value: round(microseconds, 2),
      unit: "µs",
    })),
    { name: "64 KiB of one key: all else (vector in and out, calls)", value: round(whole - named, 2), unit: "µs" },
  ] as Result[];
}

type Figure = Pick<Result, "name" | "value" | "unit">;

function besides(figure: Figure, peerValue: number): Result {
  return { ...figure, peer: FLOWER, peerValue, ratio: round(peerValue / figure.value, 1) };
}

function timesFaster(figure: Figure, peerValue: number): Result {
  const ratio = round(peerValue / figure.value, 1);
  return { ...figure, peer: FLOWER, peerValue, ratio, bar: `≥ ${TIMES_FASTER} × faster`, met: ratio >= TIMES_FASTER };
}

function medianOf<T>(samples: T[], pick: (sample: T) => number, digits = 3): number {
  return round(median(samples.map(pick)), digits);
}

function notes(): string[] {
  return [
    `${PARAMETERS} parameters in ${TENSORS.length} tensors. Medians of ${REPEATS}, ours and theirs in turns; ratio: theirs / ours.`,
    "Masking, ours: from the delta's file to the masked vector's, every leaf hashed and written, in two to four threads that run. Flower's:",
    "its client function for stage 2 on arrays in memory. Unmasking, ours: from the last share to the decoded sum, in the operator's own worker threads.",
    "Flower's: its server's unmask stage without network and clients; the bar is against it less its strategy's pass over copies of the result.",
    "One core: CPU time, as openssl speed counts it. Node's cipher.update writes into a buffer that is a byte too long and copies it once, which",
    "no caller can avoid; 64 KiB in two copies, the ring's sum, and a call of 1 µs are what masks cost beside AES.",
    "Memory: largest resident memory in a process of its own above that before its first work; both run on Node as the image starts it.",
    "Overhead: every protocol message up and down with envelope, framing and acknowledgement, manifest, weight and metrics; without the plan.",
  ];
}
