/**
 * Events and metrics of a secure round's cohorts: who aborted, who is accused, who lied, which cohort ended.
 * Holds: transitions only, as report.ts; a name stands in events, never in a metric.
 */
import type { FederationRound } from "../../api/federation-round.ts";
import { isOut } from "../../round/participants.ts";
import type { Cohort, RoundRecord } from "../../round/record.ts";
import { SECAGG_CODES } from "../../secagg/faults.ts";
import type { Context } from "../context.ts";

type Hands = Pick<Context, "events" | "metrics">;

/** @param after  with `secure`, of the same attempt as `before` */
export function tellCohorts(hands: Hands, round: FederationRound, before: RoundRecord, after: RoundRecord): void {
  const { metrics } = hands;
  const warn = (reason: string, note: string) => hands.events.record(round, { type: "Warning", reason, note });
  for (const reason of newlyAborted(before, after)) metrics.aborted(reason);
  after.secure!.cohorts.forEach((cohort, number) => {
    const was = before.secure?.cohorts[number];
    if (!was || was === cohort) return;
    for (const { reason } of cohort.gone.slice(was.gone.length)) metrics.aborted(reason);
    if (cohort.failure && !was.failure) metrics.aborted(cohort.failure.code);
    for (const { reason, note } of newsOf(was, cohort)) warn(reason, note);
  });
  const dealers = after.secure!.dealers.filter(({ leftOut }) => leftOut).map(({ participant }) => participant);
  if (dealers.length > (before.secure?.dealers.filter(({ leftOut }) => leftOut).length ?? 0))
    warn(
      "InconsistentShares",
      `${dealers.join(", ")}: left out of this federation's rounds until enrolled anew, for dealing inconsistent shares`,
    );
}

/** Told of every decision: a status may be written only after several steps. */
export function measureSteps({ metrics }: Pick<Context, "metrics">, before: RoundRecord, after: RoundRecord): void {
  // A cohort of the next attempt is another one.
  if (!after.secure || before.attempt !== after.attempt) return;
  for (const [number, was] of (before.secure?.cohorts ?? []).entries()) {
    const is = after.secure.cohorts[number]!;
    if (was.step !== is.step) metrics.stepEnded(was.step, (is.sinceMs - was.sinceMs) / 1000);
  }
}

function newsOf(was: Cohort, is: Cohort): Array<{ reason: string; note: string }> {
  return [
    ...is.gone.slice(was.gone.length).map(({ name, reason, message }) => ({
      reason: "ParticipantAborted",
      note: `${name} contributed, and is not waited for any more: ${message || reason}`,
    })),
    ...is.accusations.slice(was.accusations.length).map(({ by, accused }) => ({
      reason: "BadShare",
      note: `${by} could not open the shares of ${accused.join(", ")}`,
    })),
    ...(is.liars && !was.liars
      ? [{ reason: "WrongShare", note: `${is.liars.join(", ")} revealed a wrong share; the sum was found without it` }]
      : []),
    ...(is.failure && !was.failure ? [{ reason: is.failure.code, note: is.failure.message }] : []),
  ];
}

/** Reasons of the protocol alone: that a trainer failed is no abort of a session. */
function newlyAborted(before: RoundRecord, after: RoundRecord): string[] {
  const ended = after.secure!.cohorts.flatMap(({ failure }) => failure?.code ?? []);
  return after.participants
    .filter((p, i) => isOut(p) && before.participants[i]?.state !== p.state)
    .map(({ reason }) => reason)
    .filter((reason) => isSecaggCode(reason) && !(ended as string[]).includes(reason));
}

function isSecaggCode(reason: string): boolean {
  return (SECAGG_CODES as readonly string[]).includes(reason);
}
