/**
 * One fault: its rounds are brought to their moments, the fault strikes, what kept the rounds lets go, the fault ends, and each round has to come
 * to its end, with the right adapter, nobody missing who had a receipt, and nothing left within a minute.
 */
import { setTimeout as delay } from "node:timers/promises";
import { expect } from "vitest";
import type { AdapterVersion } from "../../../operator/api/adapter-version.ts";
import { type FederationRound, isTerminal } from "../../../operator/api/federation-round.ts";
import { ADAPTER_VERSIONS, FEDERATION_ROUNDS } from "../../../operator/kube/resources.ts";
import { NAMESPACE } from "../../demo/install.ts";
import { onlyWholeVersions, outcome, roundNow } from "../failures/rounds.ts";
import { isMeanOf } from "../failures/sums.ts";
import type { Arena } from "./arena.ts";
import type { Expected, Fault } from "./fault.ts";
import { leftOf } from "./left.ts";
import { bringTo, letGo, MOMENTS, type Moment, type RoundAt } from "./moments.ts";
import type { Row } from "./table.ts";

/** Names of rounds are used once: the operator remembers what became of each. */
const RUN = Date.now().toString(36).slice(-5);
/** From the fault's end, and three outages more. Rounds have deadlines of their own; beyond them all something hangs. */
const PATIENCE_MS = 420_000;
/** Longer than everything that tries again. */
const BRIEF_MS = 20_000;
const NOTHING_LEFT_MS = 60_000;
const POLL_MS = 250;

/** A round as it was last seen, and when it was over. */
interface Seen {
  at: RoundAt;
  round: FederationRound;
  /** Who had a receipt when the fault struck. */
  receipts: readonly string[];
  overMs?: number;
  gone?: boolean;
}

/** @returns a row for each moment, whatever came of it; `problem` is empty where all is as expected */
export async function run(arena: Arena, fault: Fault, outageMs: number): Promise<Row[]> {
  await fault.prepare?.(arena);
  const rounds = await allAtTheirMoments(arena, fault);
  const before = await Promise.all(rounds.map((at) => seen(arena, at)));
  const struckMs = Date.now();
  await fault.strike(arena, rounds);
  if (!fault.holds) await Promise.all(rounds.map((at) => letGo(arena, at)));
  if (fault.lasts) await delay(fault.lasts === "outage" ? outageMs : Math.min(outageMs, BRIEF_MS));
  await fault.heal?.(arena, rounds);
  if (fault.holds) await Promise.all(rounds.map((at) => letGo(arena, at)));
  const after = await allOver(arena, fault, before, PATIENCE_MS + 3 * outageMs);
  await fault.also?.(arena, rounds);
  return Promise.all(after.map((one) => judge(arena, fault, one, struckMs)));
}

async function allAtTheirMoments(arena: Arena, fault: Fault): Promise<RoundAt[]> {
  const moments = MOMENTS.filter((moment) => fault.at[moment]);
  const bring = (moment: Moment) =>
    bringTo(arena, moment, {
      name: `${fault.slug}-${moment}-${RUN}`,
      federation: fault.federation ?? moment,
      spec: fault.spec ?? {},
      behave: fault.behave ?? {},
    });
  const isLate = (moment: Moment) => moment === "planning" || moment === "aggregating";
  // A plan waits for two minutes at most and a slow line slows everything down: these two come last.
  return [
    ...(await Promise.all(moments.filter((moment) => !isLate(moment)).map(bring))),
    ...(await Promise.all(moments.filter(isLate).map(bring))),
  ];
}

async function seen({ under }: Arena, at: RoundAt): Promise<Seen> {
  const round = await roundNow(under, at.name);
  return { at, round, receipts: contributors(round) };
}

async function allOver(
  { under }: Arena,
  { at: expected }: Fault,
  before: readonly Seen[],
  patienceMs: number,
): Promise<Seen[]> {
  let now = [...before];
  for (const untilMs = Date.now() + patienceMs; Date.now() < untilMs; await delay(POLL_MS)) {
    now = await Promise.all(now.map((one) => (one.overMs ? one : look(one))));
    if (now.every(({ overMs }) => overMs)) break;
  }
  return now;

  async function look(one: Seen): Promise<Seen> {
    let round: FederationRound | undefined;
    try {
      const found = await under.kube.get(FEDERATION_ROUNDS, { namespace: NAMESPACE, name: one.at.name });
      round = found as unknown as FederationRound | undefined;
    } catch {
      return one; // the machine may be busy
    }
    if (!round) return { ...one, gone: true, overMs: Date.now() };
    // One that was deleted ends first, and then it goes.
    const isOver = isTerminal(round.status.phase) && expected[one.at.moment]!.phase !== "Deleted";
    return { ...one, round, ...(isOver && { overMs: endMs(round) }) };
  }
}

/** By the operator's clock, which is this machine's: nobody looks while a fault lasts. */
function endMs({ status }: FederationRound): number {
  const { phase, phaseTimes = [] } = status;
  return Date.parse(phaseTimes.find((entry) => entry.phase === phase)?.at ?? "") || Date.now();
}

async function judge(arena: Arena, fault: Fault, one: Seen, struckMs: number): Promise<Row> {
  const { at, round, overMs, gone } = one;
  const expected = fault.at[at.moment]!;
  const left = await leftAfter(arena, one);
  const problem = await asExpected(arena, one, expected).then(
    () => "",
    (error: Error) => error.message,
  );
  const { phase, reason } = outcome(round);
  const ended = phase === "Failed" ? ` (${reason})` : "";
  const attempt = (round.status.attempt ?? 1) > 1 ? `, attempt ${round.status.attempt}` : "";
  return {
    fault: fault.name,
    moment: at.moment,
    outcome: gone
      ? "Deleted"
      : overMs
        ? `${phase}${ended} ${round.status.contributions ?? ""}${attempt}`.trim()
        : `hangs in ${phase}`,
    seconds: overMs ? (overMs - struckMs) / 1000 : Number.NaN,
    left,
    problem,
  };
}

async function leftAfter({ under }: Arena, { round }: Seen): Promise<string[]> {
  let left: string[] = [];
  for (const untilMs = Date.now() + NOTHING_LEFT_MS; ; await delay(POLL_MS)) {
    left = await leftOf(under, round).catch((error: Error) => [`cannot look: ${error.message}`]);
    if (left.length === 0 || Date.now() > untilMs) return left;
  }
}

async function asExpected(arena: Arena, { at, round, receipts, gone }: Seen, expected: Expected): Promise<void> {
  const { under } = arena;
  const versions = await versionsOf(under, at.name);
  if (expected.phase === "Deleted") {
    expect(gone, JSON.stringify(round.status)).toBe(true);
    expect(versions, "versions of a round that was deleted").toEqual([]);
    return;
  }
  const why = JSON.stringify(round.status, null, 1);
  expect(round.status.phase, why).toBe(expected.phase);
  expect(round.status.attempt, why).toBe(expected.attempt ?? 1);
  if (expected.reason) expect(outcome(round).reason, why).toBe(expected.reason);
  if (expected.phase !== "Succeeded") {
    expect(versions, "versions of a round that did not succeed").toEqual([]);
  } else {
    const out = expected.without ?? {};
    const counted = contributors(round);
    expect(counted, why).toEqual(
      arena
        .members(at.federation)
        .map(({ name }) => name)
        .filter((name) => !(name in out))
        .sort(),
    );
    for (const [name, reason] of Object.entries(out)) {
      expect(round.status.participants?.find((row) => row.name === name)?.reason, why).toMatch(reason);
    }
    for (const name of receipts) expect(counted, "who had a receipt").toContain(name);
    expect(versions, "versions of this round").toEqual([round.status.adapter!.version]);
    await isMeanOf(
      under,
      round,
      counted.map((name) => under.site(name)),
    );
  }
  await onlyWholeVersions(under, at.federation);
}

const contributors = ({ status }: FederationRound): string[] =>
  (status.participants ?? [])
    .filter(({ state }) => state === "Contributed")
    .map(({ name }) => name)
    .sort();

async function versionsOf({ kube }: Arena["under"], round: string): Promise<number[]> {
  const { items } = await kube.list(ADAPTER_VERSIONS, { namespace: NAMESPACE });
  return (items as unknown as AdapterVersion[])
    .filter(({ spec }) => spec.round === round)
    .map(({ spec }) => spec.version);
}
