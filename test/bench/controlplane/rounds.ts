/** Some rounds one after the other, and what the operator's own metrics say of them. */
import { setTimeout as sleep } from "node:timers/promises";
import { Observed } from "./observe.ts";
import { bucketsBetween, Metrics, quantile } from "./scrape.ts";
import { createRound, type RoundObject, succeeded, type World } from "./world.ts";

const ROUNDS = 3;
/** After the end: clean-up, the federation's status, events. */
const AFTERMATH_MS = 5_000;
/** Of idling before the rounds: what the operator sends to the API server anyway. */
const BACKGROUND_MS = 20_000;

export interface RoundsRun {
  endingSeconds: number[];
  /** First to last entry of status.phaseTimes. */
  roundSeconds: number[];
  requests: number[];
  /** Of the operator's process, until its aftermath is over. */
  cpuSeconds: number[];
  reconcileP99Ms: number;
  reconciles: number;
  last: RoundObject;
}

export async function runRounds(
  world: World,
  { prefix, participants }: { prefix: string; participants: number },
): Promise<RoundsRun> {
  const { metricsUrl, pid } = world.operator;
  const background = await requestsPerMs(metricsUrl);
  const before = await Metrics.of(metricsUrl);
  const run: Omit<RoundsRun, "reconcileP99Ms" | "reconciles" | "last"> = {
    endingSeconds: [],
    roundSeconds: [],
    requests: [],
    cpuSeconds: [],
  };
  let last: RoundObject | undefined;
  for (let i = 1; i <= ROUNDS; i++) {
    const name = `${prefix}-${i}`;
    const startedAt = performance.now();
    const [sent, observed] = [await requests(metricsUrl), new Observed(pid)];
    await createRound(world, name);
    last = await succeeded(world, name, participants);
    await sleep(AFTERMATH_MS);
    const anyway = background * (performance.now() - startedAt);
    run.requests.push(Math.round((await requests(metricsUrl)) - sent - anyway));
    run.cpuSeconds.push(observed.end().cpuSeconds);
    run.endingSeconds.push(timeOf(last, "Succeeded") - lastContribution(last));
    run.roundSeconds.push(timeOf(last, "Succeeded") - firstTime(last));
  }
  const after = await Metrics.of(metricsUrl);
  const buckets = bucketsBetween(before, after, "controller_runtime_reconcile_time_seconds");
  return {
    ...run,
    reconcileP99Ms: quantile(buckets, 0.99) * 1000,
    reconciles: buckets.get(Number.POSITIVE_INFINITY) ?? 0,
    last: last!,
  };
}

async function requestsPerMs(metricsUrl: string): Promise<number> {
  const [startedAt, before] = [performance.now(), await requests(metricsUrl)];
  await sleep(BACKGROUND_MS);
  return ((await requests(metricsUrl)) - before) / (performance.now() - startedAt);
}

async function requests(metricsUrl: string): Promise<number> {
  return (await Metrics.of(metricsUrl)).sum("rest_client_requests_total");
}

function lastContribution({ status }: RoundObject): number {
  const contributed = status?.participants?.filter(({ state }) => state === "Contributed") ?? [];
  return Math.max(...contributed.map(({ since }) => Date.parse(since) / 1000));
}

function timeOf({ status }: RoundObject, phase: string): number {
  return Date.parse(status!.phaseTimes!.find((entry) => entry.phase === phase)!.at) / 1000;
}

function firstTime({ status }: RoundObject): number {
  return Math.min(...status!.phaseTimes!.map(({ at }) => Date.parse(at) / 1000));
}
