/**
 * Whether a federation's next round may begin, by spec.rounds and by what its rounds have come to. Pure.
 * Holds: rounds never overlap, whoever made them; spec.rounds.count counts the rounds that the federation created, whatever became of them:
 *   a site that always fails must not keep it busy for ever.
 * Does not: look at participants or version 0 (status.ts says what else is missing).
 */
import type { FederationSpec } from "../../api/federation.ts";
import { decimalNumber, durationMs } from "../../api/quantities.ts";
import type { TallyRow } from "../tally.ts";

export type NextRound =
  /** Without spec.rounds people or pipelines create rounds. */
  | { kind: "byHand" }
  | { kind: "suspended" }
  /** A person has to act. */
  | { kind: "failing"; message: string }
  | { kind: "ended"; reason: "RoundsDone" | "StopConditionMet"; message: string }
  /** A round of this federation, perhaps made by hand, has not ended. */
  | { kind: "waiting" }
  | { kind: "pausing"; untilMs: number }
  | { kind: "due" };

export interface RoundsWorld {
  nowMs: number;
  generation: number;
  /** A round that has not ended. */
  current?: string;
  tally: TallyRow;
  /** Rounds that the federation created so far. */
  created: number;
}

export function nextRound({ rounds, suspend }: FederationSpec, world: RoundsWorld): NextRound {
  if (suspend) return { kind: "suspended" };
  if (!rounds) return { kind: "byHand" };
  const { current, created, tally, nowMs } = world;
  const stopped = stopMessage(rounds, world);
  if (!stopped && isFailing(rounds, world)) return { kind: "failing", message: failingMessage(tally) };
  if (current !== undefined) return { kind: "waiting" };
  if (stopped) return { kind: "ended", reason: "StopConditionMet", message: stopped };
  if (created >= rounds.count)
    return { kind: "ended", reason: "RoundsDone", message: `all ${rounds.count} rounds have run` };
  const untilMs = (tally.lastEndedMs ?? 0) + durationMs(rounds.interval);
  return nowMs < untilMs ? { kind: "pausing", untilMs } : { kind: "due" };
}

type Rounds = NonNullable<FederationSpec["rounds"]>;

function stopMessage({ stopWhen }: Rounds, { created, tally: { lastTrainLoss } }: RoundsWorld): string | undefined {
  if (!stopWhen || lastTrainLoss === undefined || lastTrainLoss > decimalNumber(stopWhen.atMost)) return undefined;
  return `${stopWhen.metric} is ${lastTrainLoss.toFixed(4)}, at most ${stopWhen.atMost} was wanted; no round follows the ${created} created`;
}

/** Whoever changes the Federation begins a new count. */
function isFailing({ maxFailures }: Rounds, { tally, generation }: RoundsWorld): boolean {
  return tally.generationOfRow === generation && tally.failuresInRow >= maxFailures;
}

function failingMessage({ failuresInRow, lastFailure }: TallyRow): string {
  const rounds = failuresInRow === 1 ? "1 round has failed" : `${failuresInRow} rounds in a row have failed`;
  const last = lastFailure ? `, last ${lastFailure.round} (${lastFailure.reason}: ${lastFailure.message})` : "";
  // The way out first: what a round said may be long, and a message is cut at its end.
  return `${rounds}; mend the cause, then change the Federation's spec or let a round made by hand succeed${last}`;
}
