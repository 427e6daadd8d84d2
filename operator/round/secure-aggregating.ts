/**
 * Aggregating a secure round: the steps of its cohorts, then the masks are removed, then the candidate is written. → Publishing |
 * Planning (a later attempt) | Failed.
 * A cohort that is lost takes only its own members along; the round goes on while the others' contributions meet the minimum. A dealer of
 * inconsistent shares ends the round under its name: its cohort has revealed what it may ever reveal (secure-aggregation.md §3 "Bad shares").
 */
import { candidateFault, contributing, type Making, makeCandidate, publishNext } from "./candidates.ts";
import { awaited } from "./cohorts.ts";
import { fail } from "./end.ts";
import { quorumFault, sift } from "./members.ts";
import type { RoundRecord } from "./record.ts";
import { endCohort, nextStepEnd, type Stepped, stepCohorts } from "./secure-steps.ts";
import { leaveStragglers } from "./stragglers.ts";
import { addUp, isPlannedAgain } from "./training.ts";
import type { Action, Decision, World } from "./world.ts";

export function followSecureAggregating(before: RoundRecord, world: World): Decision {
  const sifted = leaveStragglers(sift(before, world), world);
  const stepped = stepCohorts(sifted.record, world, { advertised: true });
  if (isPlannedAgain(stepped.record))
    return {
      record: stepped.record,
      actions: [...sifted.actions, ...stepped.actions],
      lookAgainAtMs: world.nowMs,
    };
  const { record, actions: ended } = takeIn(stepped.record, world);
  const actions = [...sifted.actions, ...stepped.actions, ...ended];
  const { dealers } = record.secure!;
  if (dealers.length > 0) {
    return fail(record, { code: "InconsistentShares", dealers }, world.nowMs, actions);
  }
  const fault = quorumFault(record);
  if (fault) return fail(record, fault, world.nowMs, actions);
  if (world.candidate?.kind === "made") return publishNext(record, world.candidate, world.nowMs);
  // The last answer may come at the last moment: removing the masks has the same time again.
  const endMs = record.deadlines!.aggregationMs + record.aggregationMs!;
  const failure = candidateFault(world, endMs);
  if (failure) return fail(record, failure, world.nowMs, actions);
  const open = openNext(record, world);
  return {
    record,
    actions: [...actions, ...addUp(record, world), ...askNext(record), ...open.actions],
    lookAgainAtMs: Math.min(open.againMs ?? endMs, endMs, nextStepEnd(record, world)),
  };
}

/** What became of the cohorts whose masks could be removed, or not. */
function takeIn(before: RoundRecord, world: World): Stepped {
  let record = before;
  const actions: Action[] = [];
  for (const { cohort, code, message, accused } of world.sum.closed ?? []) {
    if (record.secure!.cohorts[cohort]?.failure) continue;
    const { dealers, cohorts } = record.secure!;
    const { answered, threshold } = cohorts[cohort]!;
    const blamed = (dealer: (typeof accused)[number]) => ({ ...dealer, leftOut: answered.length > threshold });
    // One that cannot be named can be neither blamed nor left out: what is left is that the shares do not suffice.
    if (code === "InconsistentDealer" && accused.length > 0)
      record = { ...record, secure: { ...record.secure!, dealers: [...dealers, ...accused.map(blamed)] } };
    else {
      const failed = code === "InconsistentDealer" ? "NotEnoughShares" : code;
      const ended = endCohort(record, cohort, { code: failed, message }, world.nowMs);
      record = ended.record;
      actions.push(...ended.actions);
    }
  }
  for (const { cohort, liars } of world.sum.opened ?? []) record = noteLiars(record, cohort, liars);
  return { record, actions };
}

function noteLiars(record: RoundRecord, number: number, liars: string[]): RoundRecord {
  const secure = record.secure!;
  if (liars.length === 0 || secure.cohorts[number]?.liars) return record;
  return {
    ...record,
    secure: { ...secure, cohorts: secure.cohorts.map((c, i) => (i === number ? { ...c, liars } : c)) },
  };
}

function askNext(record: RoundRecord): Action[] {
  const participants = record.secure!.cohorts.flatMap((cohort) => awaited(record, cohort));
  return participants.length === 0 ? [] : [{ do: "announce", participants }];
}

function openNext(record: RoundRecord, world: World): Making {
  const known = [...(world.sum.opened ?? []), ...(world.sum.closed ?? [])].map(({ cohort }) => cohort);
  const living = record.secure!.cohorts.flatMap((cohort, number) => (cohort.failure ? [] : [{ cohort, number }]));
  const due = living.filter(({ cohort, number }) => cohort.step === "complete" && !known.includes(number));
  if (due.length > 0) return { actions: due.map(({ number }) => ({ do: "unmask", cohort: number })) };
  if (living.some(({ cohort }) => cohort.step !== "complete")) return { actions: [] };
  return makeCandidate(contributing(record), world);
}
