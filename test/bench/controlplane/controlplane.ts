/**
 * What the operator itself can carry: 200 connected participants that train nothing, 1 MiB from each, with 10 and with 1,000 finished rounds
 * in history, with secure aggregation and with a trusted operator (docs/benchmarks.md says what is real here and what is not).
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Benchmark } from "../main.ts";
import { below, median, type Result, round } from "../report.ts";
import { seedHistory } from "./history.ts";
import { Observed } from "./observe.ts";
import { type RoundsRun, runRounds } from "./rounds.ts";
import { createRound, everybodyConnected, type Privacy, startWorld, succeeded, type World } from "./world.ts";

const PARTICIPANTS = 200;
const SHORT_HISTORY = 10;
const LONG_HISTORY = 1000;
/** Until garbage of starting up is collected and watches are settled. */
const SETTLE_S = 30;
/** As long as it takes until each participant's `lastSeen` is written once. */
const IDLE_S = 600;

export interface Scenario {
  participants: number;
  histories: readonly [number, number];
  idleSeconds: number;
}

export const run: Benchmark = () =>
  measure({ participants: PARTICIPANTS, histories: [SHORT_HISTORY, LONG_HISTORY], idleSeconds: IDLE_S });

export async function measure(scenario: Scenario): Promise<{ results: Result[]; notes: string[] }> {
  const folder = await mkdtemp(join(tmpdir(), "rondo-bench-controlplane-"));
  try {
    const results: Result[] = [];
    for (const privacy of ["secure", "trusted"] as const) {
      results.push(...(await measureMode(join(folder, privacy), privacy, scenario)));
    }
    return { results, notes: notes(scenario) };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

interface Measured {
  history: number;
  run: RoundsRun;
  /** Over the whole life of that operator's process: start, everybody connecting, rounds, and idling. */
  peakRssMb: number;
  idle?: { cpuPercent: number; rssMb: number };
}

async function measureMode(folder: string, privacy: Privacy, scenario: Scenario): Promise<Result[]> {
  const { participants, histories, idleSeconds } = scenario;
  await using world = await startWorld(folder, participants, privacy);
  // The first round pays for what later ones have: the parent from its registry, compiled code.
  await createRound(world, `${privacy}-0`);
  let last = await succeeded(world, `${privacy}-0`, participants);
  let finished = 1;
  const measured: Measured[] = [];
  for (const history of histories) {
    await world.operator.stop();
    await seedHistory(world, last, history - finished);
    await world.operator.start();
    const life = new Observed(world.operator.pid);
    await everybodyConnected(world.operator, participants);
    await sleep(SETTLE_S * 1000);
    // What idling costs has nothing to do with the mode.
    const idles = history === histories[1] && privacy === "secure";
    const idle = idles ? await idling(world, idleSeconds) : undefined;
    const run = await runRounds(world, { prefix: `${privacy}-${history}`, participants });
    measured.push({ history, run, peakRssMb: life.end().peakRssMb, ...(idle && { idle }) });
    last = run.last;
    finished = history + run.endingSeconds.length;
    console.log(
      `${privacy}, ${history} finished rounds: ${JSON.stringify({ ...measured.at(-1), run: { ...run, last: undefined } })}`,
    );
  }
  return resultsOf(privacy, measured);
}

async function idling({ operator }: World, seconds: number): Promise<{ cpuPercent: number; rssMb: number }> {
  const observed = new Observed(operator.pid);
  await sleep(seconds * 1000);
  const { cpuPercent, peakRssMb } = observed.end();
  return { cpuPercent, rssMb: peakRssMb };
}

function resultsOf(privacy: Privacy, measured: Measured[]): Result[] {
  const [short, long] = measured as [Measured, Measured];
  const named = (what: string, { history }: Measured) => `${privacy}, ${history} finished rounds: ${what}`;
  const figures = measured.flatMap((one): Result[] => {
    const { run } = one;
    return [
      below(
        {
          name: named("last contribution to Succeeded (median)", one),
          value: round(median(run.endingSeconds), 2),
          unit: "s",
        },
        3,
      ),
      {
        name: named("last contribution to Succeeded (slowest)", one),
        value: round(Math.max(...run.endingSeconds), 2),
        unit: "s",
      },
      { name: named("whole round (median)", one), value: round(median(run.roundSeconds), 1), unit: "s" },
      below({ name: named("reconcile p99", one), value: round(run.reconcileP99Ms, 0), unit: "ms" }, 250),
      below({ name: named("operator, peak memory", one), value: round(one.peakRssMb, 0), unit: "MB" }, 400),
      { name: named("operator, CPU per round (median)", one), value: round(median(run.cpuSeconds), 1), unit: "s" },
      { name: named("API requests per round (median)", one), value: median(run.requests), unit: "" },
    ];
  });
  const ratio = round(median(long.run.requests) / median(short.run.requests), 2);
  return [
    ...figures,
    below({ name: named("API requests per round, against the short history", long), value: ratio, unit: "×" }, 1.1),
    ...idleResults(long, named),
  ];
}

function idleResults(one: Measured, named: (what: string, one: Measured) => string): Result[] {
  if (!one.idle) return [];
  const { cpuPercent, rssMb } = one.idle;
  return [
    below({ name: named("idle operator, CPU", one), value: round(cpuPercent, 2), unit: "% of a core" }, 1),
    { name: named("idle operator, memory", one), value: round(rssMb, 0), unit: "MB" },
  ];
}

function notes({ participants, idleSeconds }: Scenario): string[] {
  return [
    `${participants} participants in two processes: own identity, certificate, connection, signatures and secure session each; no trainer, no agent.`,
    "Finished rounds: copies of one that really ended, in the API server and in the journal, with all rows of their participants.",
    "Last contribution: the latest `since` of a Contributed participant in status; Succeeded: the entry of status.phaseTimes.",
    "Reconciles: controller_runtime_reconcile_time_seconds of all four controllers while rounds ran; requests: rest_client_requests_total",
    `of the operator, less what it sends in the same time while idle. Memory: largest VmRSS from start to end, in 10^6 bytes. Idle: ${idleSeconds} s.`,
  ];
}
