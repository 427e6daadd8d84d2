/** Builders for the tests of secure rounds: five members in one cohort (t = 4), or seven in two (t = 3 each). */
import type { ParticipantState } from "../../api/federation-round.ts";
import type { Cohort, CohortStep, RoundRecord } from "../record.ts";
import { stepDeadlines } from "../secure-steps.ts";
import { contribution, participant, pending, T0, TERMS } from "./worlds.ts";

export const FIVE = ["ann", "ben", "cy", "dee", "eve"];
export const SEVEN = [...FIVE, "fay", "gus"];

export function cohort(members: string[], over: Partial<Cohort> = {}): Cohort {
  const threshold = Math.floor((2 * members.length) / 3) + 1;
  return { members, threshold, step: "advertise", sinceMs: T0, answered: [], gone: [], accusations: [], ...over };
}

/** Everybody has trained since T0; the training deadline is at T0 + 10 min, aggregation takes 2 min. */
export function secureTraining(cohorts: Cohort[], states: Record<string, ParticipantState> = {}): RoundRecord {
  const trainingMs = T0 + TERMS.trainingMs;
  return {
    ...pending(),
    phase: "Training",
    phaseTimes: ["Pending" as const, "Planning" as const, "Training" as const].map((phase) => ({ phase, atMs: T0 })),
    number: 1,
    plan: { hash: "ab", parentVersion: 0, minimum: 3, uploadLimitBytes: 1000, parentByteLength: 500 },
    deadlines: {
      acceptMs: T0 + TERMS.acceptMs,
      trainingMs,
      ...stepDeadlines(trainingMs, TERMS.aggregationMs),
      aggregationMs: trainingMs + TERMS.aggregationMs,
    },
    aggregationMs: TERMS.aggregationMs,
    participants: cohorts.flatMap(({ members }) =>
      members.map((name) => participant(name, states[name] ?? "Trained", { startedMs: T0 })),
    ),
    secure: { byteLength: 100, cohorts, dealers: [] },
  };
}

const SETS = { share: ["u1"], mask: ["u1", "u2"], consistency: ["u1", "u2", "u3"] } as const;
const ALL = ["u1", "u2", "u3", "signers"] as const;

/** One cohort of five in this step since T0: everybody is in every set so far, and `answered` have answered it. */
export function secureAt(
  step: Exclude<CohortStep, "advertise">,
  answered: string[],
  over: { states?: Record<string, ParticipantState>; cohort?: Partial<Cohort> } = {},
): RoundRecord {
  const sets = step in SETS ? SETS[step as keyof typeof SETS] : ALL;
  const full = Object.fromEntries(sets.map((set) => [set, FIVE]));
  const one = cohort(FIVE, { step, answered, ...full, ...over.cohort });
  const contributed = step === "mask" ? answered : one.u3 ? one.u3 : [];
  const states: Record<string, ParticipantState> = Object.fromEntries(
    FIVE.map((name) => [name, contributed.includes(name) ? "Contributed" : step === "mask" ? "Sharing" : "Trained"]),
  );
  const record = secureTraining([one], { ...states, ...over.states });
  const deadlines = {
    ...record.deadlines!,
    ...stepDeadlines(T0, TERMS.aggregationMs),
    aggregationMs: T0 + TERMS.aggregationMs,
  };
  return {
    ...record,
    phase: "Aggregating",
    phaseTimes: [...record.phaseTimes, { phase: "Aggregating", atMs: T0 }],
    deadlines,
    contributions: contributed.map((name) => ({ ...contribution(name) })),
  };
}
