/**
 * What the clock, the roster and the sum do to the participants of a round in Training or Aggregating, and whether enough remain.
 * Holds: whoever stops counting is named with a reason and a sentence.
 */
import type { RoundFault } from "./faults.ts";
import { BEFORE_TRAINED, changed, isOut, isSettled, NOT_NEEDED, sentence } from "./participants.ts";
import type { RoundParticipant, RoundRecord } from "./record.ts";
import { missedStep, nextStepEnd } from "./secure-steps.ts";
import type { Action, World } from "./world.ts";

export interface Sifted {
  record: RoundRecord;
  /** One per participant that has just stopped counting, so that its agent stops its trainer. */
  actions: Action[];
}

export function sift(record: RoundRecord, world: World): Sifted {
  const participants = record.participants.map((p) => judge(p, record, world));
  const dropped = participants.filter((p, i) => p !== record.participants[i] && isOut(p));
  return {
    record: dropped.length === 0 ? record : { ...record, participants },
    actions: dropped.map((p) => ({ do: "cancel", participants: [p.name], reason: p.reason, message: p.message })),
  };
}

export function quorumFault(record: RoundRecord): RoundFault | undefined {
  const out = record.participants.filter(isOut);
  const possible = record.participants.length - out.length;
  if (possible >= record.plan!.minimum) return undefined;
  const failures = (record.secure?.cohorts ?? []).flatMap(({ failure }) => failure ?? []);
  // Whoever was in a cohort that has ended is out because of it: its own sentence says more than the list of its members.
  if (failures.length > 0) return { code: failures[0]!.code, problems: failures.map(({ message }) => message) };
  return {
    code: "QuorumLost",
    possible,
    minimum: record.plan!.minimum,
    invited: record.participants.length,
    // Who was not needed did nothing wrong: a person looks for who did.
    lost: out
      .filter(({ reason }) => reason !== NOT_NEEDED)
      .map(({ name, state, message }) => ({ name, state, message })),
  };
}

export function allSettled(record: RoundRecord): boolean {
  return record.participants.every(isSettled);
}

/** The next instant at which judge() may answer differently. */
export function nextDeadline(record: RoundRecord, world: World): number {
  const { acceptMs, trainingMs, aggregationMs } = record.deadlines!;
  const open = record.participants.filter((p) => !isSettled(p));
  if (open.some((p) => beforeStart(p))) return acceptMs;
  if (record.secure) return nextStepEnd(record, world);
  return open.some((p) => BEFORE_TRAINED.includes(p.state)) ? trainingMs : aggregationMs;
}

function judge(p: RoundParticipant, record: RoundRecord, world: World): RoundParticipant {
  const refusal = world.sum.refused.find((r) => r.participant === p.name);
  if (refusal && p.state === "Contributed") return out(p, "Excluded", refusal.reason, refusal.message, world.nowMs);
  if (isSettled(p)) return p;
  if (world.revoked.has(p.name))
    return out(p, "Lost", "Revoked", "the Participant was suspended or deleted during the round", world.nowMs);
  const deadlines = record.deadlines!;
  if (world.nowMs >= deadlines.acceptMs && beforeStart(p)) return missedAccept(p, world);
  if (world.nowMs >= deadlines.trainingMs && BEFORE_TRAINED.includes(p.state)) return missedTraining(p, world);
  if (record.secure) return missedStep(p, record, world) ?? p;
  if (world.nowMs >= deadlines.aggregationMs) return missedAggregation(p, world);
  return p;
}

function beforeStart(p: RoundParticipant): boolean {
  return p.startedMs === undefined && (p.state === "Invited" || p.state === "Accepted" || p.state === "Scheduling");
}

function missedAccept(p: RoundParticipant, world: World): RoundParticipant {
  if (p.state === "Invited") {
    const message = world.connected.has(p.name)
      ? "its agent is connected but did not answer the plan before the accept deadline; see the agent's log"
      : "its agent was not connected before the accept deadline; check that it runs and reaches the operator";
    return out(p, "Lost", "NoAnswer", message, world.nowMs);
  }
  // What the site's scheduler last said is the best reason there is; without one the agent itself was too slow.
  const message = p.message || "the plan was accepted, but no trainer pod ran before the accept deadline";
  return out(p, "Failed", p.reason || "NotScheduled", message, world.nowMs);
}

function missedTraining(p: RoundParticipant, world: World): RoundParticipant {
  const at = p.progress ? `at step ${p.progress.step} of ${p.progress.steps}` : "without progress";
  if (!world.connected.has(p.name))
    return out(p, "Lost", "Disconnected", `its agent is not connected; last heard of ${at}`, world.nowMs);
  const because = p.message ? ` (${p.message})` : "";
  return out(p, "Failed", "TrainingDeadline", `not trained by the training deadline, ${at}${because}`, world.nowMs);
}

function missedAggregation(p: RoundParticipant, world: World): RoundParticipant {
  const message = world.connected.has(p.name)
    ? "trained, but its upload did not finish by the aggregation deadline"
    : "trained, but its agent is not connected and its upload did not finish by the aggregation deadline";
  return out(p, "Lost", "UploadDeadline", message, world.nowMs);
}

function out(p: RoundParticipant, state: RoundParticipant["state"], reason: string, message: string, nowMs: number) {
  return changed(p, { state, reason, message: sentence(message) }, nowMs);
}
