/**
 * The cohorts of a secure round as the record knows them (secure-aggregation.md §3, §4): who is asked what, who may still answer, and
 * what an answer changes.
 * Holds: U1 ⊇ U2 ⊇ U3, each written once, when its step is closed; what was answered before its step began or after it was closed changes nothing.
 * Does not: see a message. Whether an answer is right, secagg/coordinator has said before.
 */
import { changed, isOut, replace, sentence } from "./participants.ts";
import { type Cohort, type CohortStep, isTerminal, type RoundParticipant, type RoundRecord } from "./record.ts";

/** What a member answers by a message of its own; a masked vector is an upload (reports.ts). */
export type AnswerStep = "advertise" | "share" | "consistency" | "unmask";

export function cohortOf(record: RoundRecord, participant: string): { cohort: Cohort; number: number } | undefined {
  const number = record.secure?.cohorts.findIndex(({ members }) => members.includes(participant)) ?? -1;
  return number < 0 ? undefined : { cohort: record.secure!.cohorts[number]!, number };
}

/** Whose answer to the current step counts. */
export function asked(cohort: Cohort): readonly string[] {
  switch (cohort.step) {
    case "advertise":
      return cohort.members;
    case "share":
      return cohort.u1!;
    case "mask":
      return cohort.u2!;
    case "consistency":
      return cohort.u3!;
    case "unmask":
      return cohort.signers!;
    case "complete":
      return [];
  }
}

/** Those of the current step that have not answered, and may. */
export function awaited(record: RoundRecord, cohort: Cohort): string[] {
  if (cohort.failure) return [];
  return asked(cohort).filter((name) => !cohort.answered.includes(name) && mayAnswer(record, cohort, name));
}

/** Those of the current step whose answer counts: all of them once they have contributed, before that only who is still in the round. */
export function counted(record: RoundRecord, cohort: Cohort): string[] {
  const contributed = cohort.step === "mask" || cohort.u3 !== undefined;
  return asked(cohort).filter(
    (name) => cohort.answered.includes(name) && (contributed || !isOut(participantOf(record, name))),
  );
}

/** It has contributed, and nothing more will be asked of it: its agent keeps no secret of this round any more. */
export function hasReleased(record: RoundRecord, participant: string): boolean {
  if (participantOf(record, participant)?.state !== "Contributed") return false;
  if (!record.secure) return true;
  const { cohort } = cohortOf(record, participant)!;
  return (cohort.step === "unmask" || cohort.step === "complete") && cohort.answered.includes(participant);
}

/** When the current step ends if not everybody has answered before. */
export function stepEndMs({ deadlines }: RoundRecord, step: CohortStep): number {
  switch (step) {
    case "advertise":
      return deadlines!.trainingMs;
    case "share":
      return deadlines!.shareMs!;
    case "mask":
      return deadlines!.maskMs!;
    case "consistency":
      return deadlines!.consistencyMs!;
    case "unmask":
      return deadlines!.aggregationMs;
    case "complete":
      return Number.POSITIVE_INFINITY;
  }
}

/** Whether this participant's answer to this step is waited for now. */
export function expects(record: RoundRecord, participant: string, step: CohortStep): boolean {
  const found = isTerminal(record) ? undefined : cohortOf(record, participant);
  return found?.cohort.step === step && awaited(record, found.cohort).includes(participant);
}

/** Takes in that a member's answer was found good. */
export function applyAnswer(record: RoundRecord, participant: string, step: AnswerStep, nowMs: number): RoundRecord {
  if (!expects(record, participant, step)) return record;
  const now = participantOf(record, participant);
  const answered = withAnswer(record, participant);
  // Its keys are out: from now on a status that came late says nothing any more.
  if (step === "advertise" && now.state !== "Trained") return moved(answered, now, "Trained", nowMs);
  return step === "share" ? moved(answered, now, "Sharing", nowMs) : answered;
}

/** To be called when the answer is expected. */
export function withAnswer(record: RoundRecord, participant: string): RoundRecord {
  const { cohort, number } = cohortOf(record, participant)!;
  return withCohort(record, number, { ...cohort, answered: [...cohort.answered, participant] });
}

/** A member of U3 of which nothing more is to be expected. What it contributed counts. */
export function applyGone(
  record: RoundRecord,
  participant: string,
  { reason, message }: { reason: string; message: string },
): RoundRecord {
  const found = cohortOf(record, participant);
  if (!found || found.cohort.failure || found.cohort.gone.some(({ name }) => name === participant)) return record;
  const { cohort, number } = found;
  const gone = [...cohort.gone, { name: participant, reason, message: sentence(message) }];
  return withCohort(record, number, { ...cohort, gone });
}

/**
 * `by` could not open what these dealt to it. Only members that have dealt to each other can be meant, so that nobody is named before there
 * was anything to open, and not by one whose masked vector is here: it has opened all of them.
 */
export function applyAccusation(record: RoundRecord, by: string, accused: readonly string[]): RoundRecord {
  const found = cohortOf(record, by);
  const dealers = found?.cohort.u2 ?? [];
  if (!found || !dealers.includes(by) || participantOf(record, by).state === "Contributed") return record;
  const named = [...new Set(accused)].filter((name) => name !== by && dealers.includes(name));
  if (named.length === 0 || found.cohort.accusations.some((known) => known.by === by)) return record;
  const { cohort, number } = found;
  return withCohort(record, number, { ...cohort, accusations: [...cohort.accusations, { by, accused: named }] });
}

export function withCohort(record: RoundRecord, number: number, cohort: Cohort): RoundRecord {
  const secure = record.secure!;
  return { ...record, secure: { ...secure, cohorts: secure.cohorts.map((c, i) => (i === number ? cohort : c)) } };
}

export function participantOf(record: RoundRecord, name: string): RoundParticipant {
  return record.participants.find((p) => p.name === name)!;
}

function mayAnswer(record: RoundRecord, cohort: Cohort, name: string): boolean {
  return !isOut(participantOf(record, name)) && !cohort.gone.some((one) => one.name === name);
}

function moved(record: RoundRecord, now: RoundParticipant, state: RoundParticipant["state"], nowMs: number) {
  return replace(record, changed(now, { state }, nowMs));
}
