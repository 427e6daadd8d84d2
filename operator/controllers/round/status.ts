/**
 * A round's record as the status that people and pipelines read (api.md). Pure.
 * Holds: conditions have the reasons of round/outcome.ts; counts is complete, the list has at most 256 rows, those that need a
 *   person first; nothing private is in here, because nothing private is in the record.
 */

import { adapterVersionName } from "../../api/adapter-version.ts";
import {
  AGGREGATED,
  type Condition,
  PLANNED,
  PUBLISHED,
  QUORUM_REACHED,
  SUCCEEDED,
  setCondition,
  summarise,
} from "../../api/conditions.ts";
import type { FederationRoundStatus, ParticipantStatusRow, RoundPhase } from "../../api/federation-round.ts";
import { asked } from "../../round/cohorts.ts";
import { BEFORE_TRAINED, OUT, progressText } from "../../round/participants.ts";
import {
  COHORT_STEPS,
  type CohortStep,
  isTerminal,
  type RoundMetrics,
  type RoundParticipant,
  type RoundRecord,
} from "../../round/record.ts";

/** @param before  the conditions as last written: their transition times live on */
export function statusOf(
  record: RoundRecord,
  before: readonly Condition[],
  { generation, nowMs }: { generation: number; nowMs: number },
): FederationRoundStatus {
  const contributed = record.participants.filter((p) => p.state === "Contributed").length;
  return {
    observedGeneration: generation,
    ...(record.number !== undefined && { number: record.number }),
    phase: record.phase,
    attempt: record.attempt,
    ...(record.plan && record.deadlines && { plan: planOf(record) }),
    participants: rowsOf(record),
    counts: countsOf(record),
    ...(record.participants.length > 0 && { contributions: `${contributed}/${record.participants.length}` }),
    ...(record.published && {
      adapter: {
        version: record.published.version,
        name: adapterVersionName(record.federation, record.published.version),
      },
    }),
    ...(record.candidate?.metrics && { metrics: metricsOf(record.candidate.metrics) }),
    phaseTimes: phaseTimesOf(record),
    bytes: record.bytes,
    conditions: conditionsOf(record, contributed, before, { observedGeneration: generation, nowMs }),
  };
}

/** A list-map by phase: of one that was entered again the last time. In the order in which they were entered. */
function phaseTimesOf({ phaseTimes }: RoundRecord): FederationRoundStatus["phaseTimes"] {
  return phaseTimes
    .filter(({ phase }, i) => phaseTimes.findLastIndex((entry) => entry.phase === phase) === i)
    .map(({ phase, atMs }) => ({ phase, at: instant(atMs) }));
}

/** No floats in the API: a decimal string, of so many digits that what is left out tells nobody anything. */
function metricsOf({ trainLoss, tokens }: RoundMetrics): NonNullable<FederationRoundStatus["metrics"]> {
  return { trainLoss: trainLoss.toFixed(4), tokens };
}

function planOf(record: RoundRecord): FederationRoundStatus["plan"] {
  const { acceptMs, trainingMs, aggregationMs } = record.deadlines!;
  return {
    hash: `sha256:${record.plan!.hash}`,
    parentVersion: record.plan!.parentVersion,
    participants: record.participants.length,
    ...(record.secure && { threshold: quorumOf(record) }),
    deadlines: { accept: instant(acceptMs), training: instant(trainingMs), aggregation: instant(aggregationMs) },
  };
}

function rowsOf(record: RoundRecord): ParticipantStatusRow[] {
  const needsPerson = (p: RoundParticipant) => (OUT.includes(p.state) ? 0 : p.message !== "" ? 1 : 2);
  return [...record.participants]
    .sort((a, b) => needsPerson(a) - needsPerson(b) || (a.name < b.name ? -1 : 1))
    .slice(0, 256)
    .map((p) => ({
      name: p.name,
      state: p.state,
      ...(p.job !== "" && { job: p.job }),
      ...(p.progress && { progress: progressText(p) }),
      ...(p.reason !== "" && { reason: p.reason }),
      ...(p.message !== "" && { message: p.message }),
      since: instant(p.sinceMs),
    }));
}

function countsOf(record: RoundRecord): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { state } of record.participants) counts[state] = (counts[state] ?? 0) + 1;
  return counts;
}

const WORKING: Record<Exclude<RoundPhase, "Succeeded" | "Failed" | "Cancelled">, string> = {
  Pending: "the round is about to begin",
  Planning: "participants are being chosen and the plan is being signed",
  Training: "participants train",
  Aggregating: "contributions are being added",
  Publishing: "the candidate is being pushed to the registry",
};

function conditionsOf(
  record: RoundRecord,
  contributed: number,
  before: readonly Condition[],
  at: { observedGeneration: number; nowMs: number },
): Condition[] {
  const { observedGeneration, nowMs } = at;
  let conditions: Condition[] = [...before];
  const set = (type: string, holds: boolean, reason: string, message: string) => {
    // A step that was not reached is no news before the round ends.
    if (!holds && !isTerminal(record)) return;
    conditions = setCondition(
      conditions,
      { type, status: holds ? "True" : "False", reason, message, observedGeneration },
      nowMs,
    );
  };
  const why = record.outcome?.reason ?? record.phase;
  const minimum = quorumOf(record);
  const hasQuorum = record.plan !== undefined && contributed >= minimum;
  // What the attempt before had reached is to be reached anew.
  if (record.phase === "Planning" && record.attempt > 1)
    conditions = conditions.filter(({ type }) => type !== QUORUM_REACHED && type !== AGGREGATED);
  set(PLANNED, record.plan !== undefined, record.plan ? "Planned" : why, planMessage(record));
  set(QUORUM_REACHED, hasQuorum, hasQuorum ? "QuorumReached" : why, `${contributed} contributions, ${minimum} needed`);
  const underWay = aggregationUnderWay(record);
  if (underWay)
    conditions = setCondition(
      conditions,
      { type: AGGREGATED, status: "Unknown", ...underWay, observedGeneration },
      nowMs,
    );
  set(
    AGGREGATED,
    !!record.candidate,
    record.candidate ? "Aggregated" : why,
    record.candidate?.digest ?? "no candidate",
  );
  set(
    PUBLISHED,
    !!record.published,
    record.published ? "Published" : why,
    record.published?.reference ?? "not published",
  );
  return summarise(conditions, SUCCEEDED, outcomeOf(record), at);
}

const STEPS: Record<CohortStep, { reason: string; message: string }> = {
  advertise: { reason: "Advertising", message: "participants that have trained send their keys" },
  share: { reason: "Sharing", message: "participants deal shares of their keys to each other" },
  mask: { reason: "Masking", message: "masked deltas are being uploaded" },
  consistency: { reason: "Consistency", message: "participants confirm to each other whose deltas are in the sum" },
  unmask: { reason: "Unmasking", message: "participants reveal what removes the masks from the sum" },
  complete: { reason: "Unmasking", message: "the masks are being removed from the sum" },
};

/** Where the slowest cohort of a secure round is, from the first keys to the candidate. */
function aggregationUnderWay(record: RoundRecord): { reason: string; message: string } | undefined {
  if (!record.secure || record.candidate || isTerminal(record)) return undefined;
  const living = record.secure.cohorts.filter(({ failure }) => !failure);
  const slowest = COHORT_STEPS.find((step) => living.some((cohort) => cohort.step === step));
  const hasBegun = slowest !== "advertise" || living.some(({ answered }) => answered.length > 0);
  return slowest && hasBegun ? STEPS[slowest] : undefined;
}

/** Contributions without which the round fails: in a secure round at least what opens its sum, or the largest of its sums. */
function quorumOf(record: RoundRecord): number {
  const thresholds = (record.secure?.cohorts ?? []).map(({ threshold }) => threshold);
  return Math.max(record.plan?.minimum ?? 0, ...thresholds);
}

function planMessage(record: RoundRecord): string {
  if (!record.plan) return "the round was not planned";
  const planned = `${record.participants.length} participants, parent version ${record.plan.parentVersion}`;
  const left = record.participants.filter((p) => !OUT.includes(p.state)).length;
  return record.attempt > 1 ? `${planned}; attempt ${record.attempt} among the ${left} that are left` : planned;
}

function outcomeOf(record: RoundRecord) {
  const message = record.outcome?.message.slice(0, 1024) ?? "";
  switch (record.phase) {
    case "Succeeded":
      return { state: "done", reason: "Succeeded", message } as const;
    case "Failed":
    case "Cancelled":
      return { state: "stalled", reason: record.outcome?.reason ?? record.phase, message } as const;
    default:
      return {
        state: "progressing",
        reason: record.waiting?.for ?? record.phase,
        message: record.waiting?.message ?? workingOn(record),
      } as const;
  }
}

function workingOnPhase(record: RoundRecord): string {
  const phase = WORKING[record.phase as keyof typeof WORKING];
  if (record.attempt === 1) return phase;
  if (record.phase === "Planning") return `attempt ${record.attempt} is being planned without those who are lost`;
  const only = record.participants.some((p) => BEFORE_TRAINED.includes(p.state))
    ? phase
    : "what was trained is offered again";
  return `attempt ${record.attempt}: ${record.phase === "Training" ? only : phase}`;
}

/** What the round waits for: of a secure round too, whose cohorts show nothing else until their sum is there. */
function workingOn(record: RoundRecord): string {
  const phase = workingOnPhase(record);
  const cohorts = (record.secure?.cohorts ?? []).map((cohort, number) => ({ ...cohort, number }));
  const living = cohorts.filter(({ failure }) => !failure);
  if (record.candidate || living.length === 0) return phase;
  const counts = living.map((cohort) => ({
    number: cohort.number,
    step: cohort.step,
    answered: cohort.answered.length,
    asked: cohort.step === "complete" ? cohort.answered.length : asked(cohort).length,
  }));
  const [only] = counts;
  const steps =
    cohorts.length === 1
      ? `step ${only!.step}: ${only!.answered} of ${only!.asked} have answered`
      : `steps of cohorts: ${counts.map((c) => `${c.number} ${c.step} ${c.answered}/${c.asked}`).join(", ")}`;
  return record.phase === "Aggregating" ? steps : `${phase}; ${steps}`;
}

function instant(ms: number): string {
  return new Date(ms).toISOString();
}
