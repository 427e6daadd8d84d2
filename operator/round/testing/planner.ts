/**
 * The plans of a simulated round: the first one, with a draw where there are more participants than a cohort takes, and those of later attempts.
 * Holds: as the journal does, an attempt has one plan, whatever crashes.
 */
import type { RoundRecord } from "../record.ts";
import { stepDeadlines } from "../secure-steps.ts";
import type { PlanResult, Terms } from "../world.ts";

export interface Setting {
  names: string[];
  terms: Terms;
  /** Absent: a trusted round. */
  cohortSize?: number;
  enough?: number;
}

type Made = Extract<PlanResult, { kind: "made" }>;

export class Planner {
  readonly #setting: Setting;
  readonly #plans = new Map<number, Made>();

  constructor(setting: Setting) {
    this.#setting = setting;
  }

  plan(record: RoundRecord, nowMs: number): PlanResult {
    const { cohortSize, names } = this.#setting;
    const known = this.#plans.get(record.attempt);
    if (known) return known;
    if (cohortSize && record.attempt === 1 && !record.draw && names.length > cohortSize)
      return { kind: "draw", number: 1, cohortSize, members: names };
    const made = this.#made(record, nowMs);
    this.#plans.set(record.attempt, made);
    return made;
  }

  #made(record: RoundRecord, nowMs: number): Made {
    const setting = this.#setting;
    const { minimum, aggregationMs } = setting.terms;
    const cohorts = setting.cohortSize ? (record.next?.cohorts ?? this.#split(record, setting.cohortSize)) : undefined;
    const roster = cohorts?.flat() ?? setting.names;
    const { acceptMs, trainingMs } = this.#ends(record, nowMs);
    return {
      ...{ kind: "made", attempt: record.attempt, number: record.number ?? 1, hash: `${record.attempt}` },
      ...{ parentVersion: 0, parentByteLength: 5, uploadLimitBytes: 1000, roster, minimum, aggregationMs },
      ...(setting.enough !== undefined && { enough: setting.enough }),
      deadlines: {
        acceptMs,
        trainingMs,
        ...(cohorts && stepDeadlines(trainingMs, aggregationMs)),
        aggregationMs: trainingMs + aggregationMs,
      },
      ...(cohorts && {
        secure: {
          byteLength: 100,
          cohorts: cohorts.map((members) => ({ members, threshold: Math.floor((2 * members.length) / 3) + 1 })),
        },
      }),
    };
  }

  #ends(record: RoundRecord, nowMs: number): { acceptMs: number; trainingMs: number } {
    const { terms } = this.#setting;
    const deadlines = record.next?.deadlines;
    if (deadlines?.kind === "kept") return deadlines;
    if (!deadlines) return { acceptMs: nowMs + terms.acceptMs, trainingMs: nowMs + terms.trainingMs };
    const endMs = nowMs + deadlines.withinMs;
    return { acceptMs: endMs, trainingMs: endMs };
  }

  #split(record: RoundRecord, cohortSize: number): string[][] {
    const names = record.draw?.members.map(({ name }) => name) ?? this.#setting.names;
    const count = Math.ceil(names.length / cohortSize);
    return Array.from({ length: count }, (_, at) => names.filter((_, i) => i % count === at));
  }
}
