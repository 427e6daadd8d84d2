/**
 * What the clock does to the cohorts of a secure round (secure-aggregation.md §3 "Steps end"): a step ends when everybody who may still answer
 * has, at the latest at its instant; a cohort of which fewer than t are left ends with a sentence that names who is missing and why.
 * Holds: what is closed stays closed; a cohort that has ended takes no answer any more, and its members are told to stop.
 */
import { nextAttempt } from "./attempts.ts";
import { asked, awaited, counted, participantOf, stepEndMs, withCohort } from "./cohorts.ts";
import { changed, isOut, isSettled, sentence } from "./participants.ts";
import type { Cohort, CohortStep, RoundParticipant, RoundRecord } from "./record.ts";
import type { Action, World } from "./world.ts";

export interface Stepped {
  record: RoundRecord;
  actions: Action[];
}

/**
 * Ends cohorts that are too small for good, or has the round planned again without those who are lost (it is in Planning then), and closes
 * what can be closed. The first step closes only when `advertised` says so:
 * no cohort shares while another one's members still train.
 */
export function stepCohorts(before: RoundRecord, world: World, { advertised }: { advertised: boolean }): Stepped {
  let record = missing(before, world);
  const actions: Action[] = [];
  for (;;) {
    const short = numbersOf(record, (cohort) => possible(record, cohort, world) < cohort.threshold);
    const again = short.length > 0 && nextAttempt(record, world, short);
    if (again) return { record: again.record, actions: [...actions, ...again.actions] };
    for (const number of short) {
      const left = possible(record, record.secure!.cohorts[number]!, world);
      const ended = endCohort(record, number, tooSmall(record, number, left), world.nowMs);
      record = ended.record;
      actions.push(...ended.actions);
    }
    const due = numbersOf(record, (cohort) => isDue(record, cohort, world, advertised));
    if (due.length === 0) return { record, actions };
    for (const number of due) {
      const cohort = record.secure!.cohorts[number]!;
      record = withCohort(record, number, closed(cohort, counted(record, cohort), world.nowMs));
    }
  }
}

function numbersOf(record: RoundRecord, is: (cohort: Cohort) => boolean): number[] {
  return record.secure!.cohorts.flatMap((cohort, number) =>
    cohort.failure || cohort.step === "complete" || !is(cohort) ? [] : [number],
  );
}

function waitedFor(record: RoundRecord, cohort: Cohort, world: World): string[] {
  return world.nowMs >= endsMs(record, cohort, world) ? [] : awaited(record, cohort);
}

/** Of how many the current step can still have an answer that counts. */
function possible(record: RoundRecord, cohort: Cohort, world: World): number {
  return counted(record, cohort).length + waitedFor(record, cohort, world).length;
}

function isDue(record: RoundRecord, cohort: Cohort, world: World, advertised: boolean): boolean {
  return waitedFor(record, cohort, world).length === 0 && (cohort.step !== "advertise" || advertised);
}

/** Of the aggregation's length: what is left goes to unmasking (secure-aggregation.md §3 "Steps end"). */
const SHARES_OF_AGGREGATION = { shareMs: 0.15, maskMs: 0.7, consistencyMs: 0.85 };

/** When the steps end of an aggregation that begins at this instant. */
export function stepDeadlines(startMs: number, lengthMs: number) {
  const at = (part: number) => startMs + Math.floor(part * lengthMs);
  const { shareMs, maskMs, consistencyMs } = SHARES_OF_AGGREGATION;
  return { shareMs: at(shareMs), maskMs: at(maskMs), consistencyMs: at(consistencyMs) };
}

/** The next instant at which stepCohorts() may answer differently. */
export function nextStepEnd(record: RoundRecord, world: World): number {
  const open = record.secure!.cohorts.filter((cohort) => !cohort.failure);
  return Math.min(...open.map((cohort) => endsMs(record, cohort, world)), Number.POSITIVE_INFINITY);
}

/** Which step's time a step may use up. The first has the whole training, and the last has nobody after it. */
const NEXT: Partial<Record<CohortStep, CohortStep>> = { share: "mask", mask: "consistency", consistency: "unmask" };

/**
 * When the cohort's step ends: as planned; at the end of the next step where the cohort would be lost for good as planned, because too few
 * have answered and the round cannot be planned again without the others. An operator that was cut off, or away, for longer than a step
 * lasts finds its members silent, and all of them still there.
 */
function endsMs(record: RoundRecord, cohort: Cohort, world: World): number {
  const plannedMs = stepEndMs(record, cohort.step);
  const next = NEXT[cohort.step];
  if (!next || world.nowMs < plannedMs || counted(record, cohort).length >= cohort.threshold) return plannedMs;
  const lost = new Set(awaited(record, cohort));
  const participants = record.participants.map((p) => (lost.has(p.name) ? { ...p, state: "Lost" as const } : p));
  const number = record.secure!.cohorts.indexOf(cohort);
  return nextAttempt({ ...record, participants }, world, [number]) ? plannedMs : stepEndMs(record, next);
}

/** Its members stop counting; what they contributed is in no sum. */
export function endCohort(
  record: RoundRecord,
  number: number,
  failure: NonNullable<Cohort["failure"]>,
  nowMs: number,
): Stepped {
  const cohort = record.secure!.cohorts[number]!;
  const open = cohort.members.filter((name) => !isOut(participantOf(record, name)));
  const change = { state: "Excluded", reason: failure.code, message: sentence(failure.message) } as const;
  const participants = record.participants.map((p) => (open.includes(p.name) ? changed(p, change, nowMs) : p));
  const { reason, message } = change;
  return {
    record: withCohort({ ...record, participants }, number, { ...cohort, failure }),
    actions: open.length === 0 ? [] : [{ do: "cancel", participants: open, reason, message }],
  };
}

/** Whoever has not answered in time is out; in the last two steps it has contributed already and only fails to answer. */
export function missedStep(p: RoundParticipant, record: RoundRecord, world: World): RoundParticipant | undefined {
  const cohort = record.secure?.cohorts.find(({ members }) => members.includes(p.name));
  if (!cohort || cohort.failure || isSettled(p) || world.nowMs < endsMs(record, cohort, world)) return undefined;
  if (cohort.answered.includes(p.name) || !asked(cohort).includes(p.name)) return undefined;
  const missed = MISSED[cohort.step];
  if (!missed) return undefined;
  const away = world.connected.has(p.name) ? "" : "its agent is not connected, and ";
  const message = sentence(`trained, but ${away}${missed.what} by ${missed.deadline}`);
  return changed(p, { state: "Lost", reason: missed.reason, message }, world.nowMs);
}

const MISSED: Partial<Record<CohortStep, { reason: string; what: string; deadline: string }>> = {
  advertise: { reason: "KeysDeadline", what: "its keys did not come", deadline: "the training deadline" },
  share: { reason: "ShareDeadline", what: "its shares did not come", deadline: "the sharing deadline" },
  mask: { reason: "UploadDeadline", what: "its upload did not finish", deadline: "the masking deadline" },
};

/** Members of U3 that were suspended or deleted since will not answer. */
function missing(record: RoundRecord, world: World): RoundRecord {
  const cohorts = record.secure!.cohorts.map((cohort) => {
    const left = cohort.failure ? [] : (cohort.u3 ?? []).filter((name) => isNewlyRevoked(cohort, name, world));
    const message = "the Participant was suspended or deleted during the round";
    const gone = left.map((name) => ({ name, reason: "Revoked", message }));
    return gone.length === 0 ? cohort : { ...cohort, gone: [...cohort.gone, ...gone] };
  });
  const same = cohorts.every((cohort, i) => cohort === record.secure!.cohorts[i]);
  return same ? record : { ...record, secure: { ...record.secure!, cohorts } };
}

function isNewlyRevoked(cohort: Cohort, name: string, world: World): boolean {
  return world.revoked.has(name) && !cohort.gone.some((one) => one.name === name);
}

function closed(cohort: Cohort, members: string[], sinceMs: number): Cohort {
  const set = [...members].sort((a, b) => cohort.members.indexOf(a) - cohort.members.indexOf(b));
  const next = { ...cohort, sinceMs, answered: [] };
  switch (cohort.step) {
    case "advertise":
      return { ...next, step: "share", u1: set };
    case "share":
      return { ...next, step: "mask", u2: set };
    case "mask":
      return { ...next, step: "consistency", u3: set };
    case "consistency":
      return { ...next, step: "unmask", signers: set };
    default:
      return { ...next, step: "complete", answered: set };
  }
}

const DOING: Record<CohortStep, string> = {
  advertise: "before keys were shared",
  share: "while keys were shared",
  mask: "while masked vectors came in",
  consistency: "while the survivors were confirmed",
  unmask: "while the masks were removed",
  complete: "while the masks were removed",
};

function tooSmall(record: RoundRecord, number: number, left: number): NonNullable<Cohort["failure"]> {
  const cohort = record.secure!.cohorts[number]!;
  const attempt = record.attempt > 1 ? ` of attempt ${record.attempt}` : "";
  const which = record.secure!.cohorts.length > 1 ? `cohort ${number}${attempt}` : `secure aggregation${attempt}`;
  const facts = `${left} of ${cohort.members.length} are left ${DOING[cohort.step]}, ${cohort.threshold} are needed`;
  const reasons = [...accusedIn(cohort), ...lostOf(record, cohort)];
  const because = reasons.length > 0 ? `; ${reasons.slice(0, 8).join("; ")}` : "";
  const more = reasons.length > 8 ? `; and ${reasons.length - 8} more` : "";
  return { code: "CohortTooSmall", message: `${which} ended: ${facts}${because}${more}` };
}

function lostOf(record: RoundRecord, cohort: Cohort): string[] {
  const out = cohort.members.map((name) => participantOf(record, name)).filter(isOut);
  const gone = cohort.gone.map(({ name, reason, message }) => `${name} ${reason}${message ? ` (${message})` : ""}`);
  const silent =
    cohort.u3 === undefined
      ? []
      : asked(cohort).filter((name) => !cohort.answered.includes(name) && !cohort.gone.some((g) => g.name === name));
  return [
    ...out.map((p) => `${p.name} ${p.state}${p.message ? ` (${p.message})` : ""}`),
    ...gone,
    ...silent.map((name) => `${name} contributed and then did not answer`),
  ];
}

/** Who is accused stands first: it is what whoever reads this has to look at. */
function accusedIn(cohort: Cohort): string[] {
  const accusers = new Map<string, string[]>();
  for (const { by, accused } of cohort.accusations)
    for (const name of accused) accusers.set(name, [...(accusers.get(name) ?? []), by]);
  return [...accusers].map(([name, by]) => `the shares of ${name} could not be opened by ${by.join(", ")}`);
}
