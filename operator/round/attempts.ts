/**
 * A later attempt of a secure round (secure-aggregation.md §4 "Attempts"): when a cohort falls below its threshold although those who are left
 * are enough, the round is planned again without those who are out.
 * Holds: a later attempt only loses members; it keeps the split, the number, the parent and what was trained. Before anybody has shared keys
 *   that is a removal, which is free; afterwards it is a failed attempt, of which the plan allows `retries`; once shares of the masks may be
 *   out (`unmask`) there is none: a second sum over nearly the same members would show the difference. Attempts are bounded: each removal
 *   loses a member, and more than members − minimum cannot be lost.
 * Does not: make the plan (controllers/round/actions/plan.ts), nor clear away the attempt that has ended (`dropAttempt`).
 */
import { asked, participantOf, stepEndMs } from "./cohorts.ts";
import { changed, isOut, sentence } from "./participants.ts";
import { type Cohort, enter, type NextAttempt, type RoundParticipant, type RoundRecord } from "./record.ts";
import type { Stepped } from "./secure-steps.ts";
import type { World } from "./world.ts";

/** As in a plan: a sum over fewer hides nobody. */
const SMALLEST_COHORT = 3;

/**
 * @param short  the cohorts, by number, that are below their threshold now
 * @returns the round in Planning again; undefined: it ends these cohorts and goes on with the others, or fails
 */
export function nextAttempt(record: RoundRecord, world: World, short: readonly number[]): Stepped | undefined {
  const { cohorts } = record.secure!;
  if (cohorts.some(({ step }) => step === "unmask" || step === "complete")) return undefined;
  const participants = withoutSilent(record, world);
  const left = cohorts.map((cohort) => (cohort.failure ? [] : stillIn(cohort, participants)));
  // What cannot be saved needs no new plan: its cohort ends, and the others never notice.
  if (!short.some((number) => left[number]!.length >= SMALLEST_COHORT)) return undefined;
  const kept = left.filter(({ length }) => length >= SMALLEST_COHORT);
  if (sizeOf(kept) < record.plan!.minimum) return undefined;
  const isRemoval = cohorts.every(({ step }) => step === "advertise") && world.nowMs < record.deadlines!.trainingMs;
  if (!isRemoval) {
    if (sizeOf(left.filter((_, number) => !short.includes(number))) >= record.plan!.minimum) return undefined;
    if ((record.attempts?.failed ?? 0) >= (record.plan!.retries ?? 0)) return undefined;
  }
  return planAgain(record, world.nowMs, { participants, kept, isRemoval });
}

function planAgain(
  before: RoundRecord,
  nowMs: number,
  { participants, kept, isRemoval }: { participants: RoundParticipant[]; kept: string[][]; isRemoval: boolean },
): Stepped {
  const { secure: _secure, ...record } = before;
  const { failed, removals } = before.attempts ?? { failed: 0, removals: 0 };
  const { acceptMs, trainingMs, aggregationMs } = before.deadlines!;
  const stays = new Set(kept.flat());
  const rows = participants.map((p) =>
    isOut(p) ? p : stays.has(p.name) ? backToTrained(p, nowMs) : leftOut(p, nowMs),
  );
  const dropped = rows.filter((p, i) => isOut(p) && !isOut(before.participants[i]!));
  return {
    record: {
      ...enter(record, "Planning", nowMs),
      attempt: before.attempt + 1,
      attempts: isRemoval ? { failed, removals: removals + 1 } : { failed: failed + 1, removals },
      next: { cohorts: kept, deadlines: deadlinesOf(before, nowMs, isRemoval) },
      deadlines: { acceptMs, trainingMs, aggregationMs },
      participants: rows,
      contributions: [],
    },
    actions: dropped.map((p) => ({ do: "cancel", participants: [p.name], reason: p.reason, message: p.message })),
  };
}

/**
 * Whoever trains has the time that it had; whoever has trained needs some to accept and to send keys, also when a member was lost at the
 * last moment: a trainer that is stopped by the training deadline is exactly that.
 */
function deadlinesOf(record: RoundRecord, nowMs: number, isRemoval: boolean): NextAttempt["deadlines"] {
  const aggregationMs = record.aggregationMs!;
  const withinMs = Math.min(record.plan!.acceptMs ?? aggregationMs, aggregationMs);
  if (!isRemoval) return { kind: "anew", withinMs };
  const { acceptMs, trainingMs } = record.deadlines!;
  return { kind: "kept", acceptMs, trainingMs: Math.max(trainingMs, nowMs + withinMs) };
}

/** A vector that was uploaded is in no sum; the delta that it masked is still at its site. */
function backToTrained(p: RoundParticipant, nowMs: number): RoundParticipant {
  return p.state === "Sharing" || p.state === "Contributed" ? changed(p, { state: "Trained" }, nowMs) : p;
}

function leftOut(p: RoundParticipant, nowMs: number): RoundParticipant {
  const message = `fewer than ${SMALLEST_COHORT} members of its cohort are left, too few to hide each other in a sum`;
  return changed(p, { state: "Excluded", reason: "CohortTooSmall", message }, nowMs);
}

/** Those too who are not out by their state: what they contributed would have counted, but they answer no more. */
function withoutSilent(record: RoundRecord, world: World): RoundParticipant[] {
  const changes = new Map<string, RoundParticipant>();
  for (const cohort of record.secure!.cohorts.filter(({ failure }) => !failure))
    for (const p of [
      ...gone(record, cohort, world),
      ...silent(record, cohort, world),
      ...dealers(record, cohort, world),
    ])
      changes.set(p.name, p);
  return record.participants.map((p) => (isOut(p) ? p : (changes.get(p.name) ?? p)));
}

function gone(record: RoundRecord, cohort: Cohort, { nowMs }: World): RoundParticipant[] {
  return cohort.gone.map(({ name, reason, message }) =>
    changed(participantOf(record, name), { state: reason === "Revoked" ? "Lost" : "Failed", reason, message }, nowMs),
  );
}

function silent(record: RoundRecord, cohort: Cohort, { nowMs, connected }: World): RoundParticipant[] {
  if (cohort.step !== "consistency" || nowMs < stepEndMs(record, cohort.step)) return [];
  const missing = asked(cohort).filter((name) => !cohort.answered.includes(name));
  return missing.map((name) => {
    const away = connected.has(name) ? "" : "its agent is not connected, and ";
    const message = sentence(
      `uploaded, but ${away}its signature of the survivors did not come by the consistency deadline`,
    );
    return changed(participantOf(record, name), { state: "Lost", reason: "ConsistencyDeadline", message }, nowMs);
  });
}

/** Two who cannot open what somebody dealt to them are believed (secure-aggregation.md §3 "Bad shares"); one alone is out itself. */
function dealers(record: RoundRecord, cohort: Cohort, { nowMs }: World): RoundParticipant[] {
  const accusers = (name: string) => cohort.accusations.filter(({ accused }) => accused.includes(name));
  const believed = cohort.members.filter((name) => accusers(name).length >= 2);
  return believed.map((name) => {
    const by = accusers(name).map((one) => one.by);
    const message = sentence(`${by.join(" and ")} could not open the shares that it dealt to them`);
    return changed(participantOf(record, name), { state: "Excluded", reason: "SharesUnreadable", message }, nowMs);
  });
}

function stillIn({ members }: Cohort, participants: readonly RoundParticipant[]): string[] {
  const out = new Set(participants.filter(isOut).map(({ name }) => name));
  return members.filter((name) => !out.has(name));
}

function sizeOf(cohorts: readonly string[][]): number {
  return cohorts.reduce((sum, { length }) => sum + length, 0);
}
