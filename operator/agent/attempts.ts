/**
 * Whether a plan may take over from an earlier attempt of its round at this site (secure-aggregation.md §4 "Attempts", §6.2, §6.3).
 * Holds: pure; a later attempt only removes members, and changes nothing else but what follows from that; none takes over what was released,
 * or what has ended here: one delta is in at most one opened sum.
 * Does not: take over (work.ts), or judge the plan by itself (policy.ts).
 */
import { isDeepStrictEqual } from "node:util";
import type { Plan } from "../round/plan.ts";
import { withoutOthers } from "../secagg/draw.ts";
import type { Attempt } from "./ledger.ts";
import { type Assignment, hasEnded } from "./record.ts";

export interface AttemptFault {
  reason: "RoundTooOld" | "AlreadyReleased" | "WorkEnded" | "PlanChanged";
  message: string;
}

/** @param earlier  the newest attempt of the plan's round that this site has answered */
export function attemptFault(plan: Plan, earlier: Attempt): AttemptFault | undefined {
  const { assignment, session } = earlier;
  if (plan.attempt <= assignment.attempt) {
    return fault(
      "RoundTooOld",
      `attempt ${plan.attempt} of round ${plan.round} is not above ${assignment.attempt}, the highest this agent has seen`,
    );
  }
  if (session?.state === "RELEASED") {
    return fault(
      "AlreadyReleased",
      `this site has given its shares for attempt ${assignment.attempt} of the round already, and gives its delta to one sum only`,
    );
  }
  const ended = sentenceOfEnd(earlier);
  if (ended !== undefined) return fault("WorkEnded", `this site's part in the round has ended: ${ended}`);
  return termsFault(plan, earlier.plan);
}

/** Nothing more is trained for it: of the deadlines only the last one matters. */
export function isTrained({ state }: Pick<Assignment, "state">): boolean {
  return state.kind === "Trained" || state.kind === "Prepared";
}

/** A session that was aborted ends its assignment, though the record may not say so yet. */
function sentenceOfEnd({ assignment, session }: Attempt): string | undefined {
  if (session?.state === "ABORTED") return session.problem?.message ?? "its session was aborted";
  if (!hasEnded(assignment)) return undefined;
  return "message" in assignment.state && assignment.state.message ? assignment.state.message : assignment.state.kind;
}

function termsFault(plan: Plan, before: Plan): AttemptFault | undefined {
  if (!plan.secure || !before.secure) return fault("PlanChanged", "only secure rounds have further attempts");
  const changed = changedTerm(plan, before);
  if (changed) return changedFault(`changes ${changed}`);
  const known = new Map(before.roster.map(({ participant, identity }) => [participant, identity]));
  if (plan.roster.some(({ participant, identity }) => known.get(participant) !== identity)) {
    return changedFault("has members that the attempt before did not have, or another key of one");
  }
  const split = withoutOthers(
    before.secure.cohorts.map(({ members }) => members),
    plan.roster.map(({ participant }) => participant),
  );
  return isDeepStrictEqual(
    split,
    plan.secure.cohorts.map(({ members }) => members),
  )
    ? undefined
    : changedFault("splits its members into other cohorts than the attempt before");
}

/** Everything but who is in it and what follows from that, which is judged as in any plan (secagg/secure-plan.ts). */
function changedTerm(plan: Plan, before: Plan): string | undefined {
  const [now, then] = [termsOf(plan), termsOf(before)];
  const names = new Set([...Object.keys(now), ...Object.keys(then)]);
  return [...names].find((name) => !isDeepStrictEqual(now[name], then[name]));
}

function termsOf({ attempt: _, roster: _r, deadlines: _d, secure, ...plan }: Plan): Record<string, unknown> {
  const { cohorts: _c, largestCohort: _l, scales = [], ...terms } = secure ?? {};
  return { ...plan, clips: scales.map(({ clip }) => clip), ...terms };
}

function changedFault(what: string): AttemptFault {
  return fault("PlanChanged", `the plan of a later attempt ${what}; it may only leave members out`);
}

function fault(reason: AttemptFault["reason"], message: string): AttemptFault {
  return { reason, message };
}
