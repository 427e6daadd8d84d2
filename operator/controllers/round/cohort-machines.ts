/**
 * The coordinator's side of secure aggregation for one attempt of a round: a state of secagg/coordinator per cohort, rebuilt from record and journal.
 * Holds: which step a cohort is in, and its sets, is the record's word alone: a state is brought to it before it is used; the bytes of each
 *   answer lie in journal space "secagg" in the commit that put its sender into the record. So nothing is asked for twice after a restart.
 * Does not: decide when a step ends (operator/round), nor send anything.
 */
import { setImmediate } from "node:timers/promises";
import type { Journal, Write } from "../../journal/journal.ts";
import { asked } from "../../round/cohorts.ts";
import { COHORT_STEPS, type Cohort, type CohortStep, type RoundRecord } from "../../round/record.ts";
import {
  type CohortState,
  closeStep,
  openCohort,
  receive,
  receiveInput,
  requestFor,
} from "../../secagg/coordinator/cohort.ts";
import type { CoordinatorMessage, ParticipantMessage, SessionTerms } from "../../secagg/messages.ts";
import { sessionTerms } from "../../secagg/terms.ts";
import { Advertise, Consistency, ShareKeys, SignedInput, Unmask } from "../../transport/generated/rondo.v1.ts";
import type { RoundPlan } from "./stored-plan.ts";

const SPACE = "secagg";
/** A few milliseconds of signatures, then everybody else has a turn. */
const ANSWERS_AT_ONCE = 16;

/** What a member said, as it came: one of its messages, or the signed part of its upload's manifest. */
export type StepAnswer = ParticipantMessage | { $case: "mask"; value: SignedInput };

export class CohortMachines {
  /** Of each cohort of the plan, in its order. */
  readonly terms: readonly SessionTerms[];
  readonly #prefix: string;
  readonly #states: CohortState[];

  private constructor(prefix: string, terms: SessionTerms[]) {
    this.#prefix = prefix;
    this.terms = terms;
    this.#states = terms.map(() => openCohort());
  }

  /** @param record  its newest state; what is journalled afterwards goes through take() */
  static async load(
    journal: Journal,
    { plan, planHash }: RoundPlan,
    record: () => RoundRecord,
  ): Promise<CohortMachines> {
    const prefix = prefixOf(record());
    const keys = new Map(
      plan.roster.map(({ participant, identity }) => [participant, Buffer.from(identity, "base64")]),
    );
    const terms = plan.secure!.cohorts.map((_, number) =>
      sessionTerms(plan, planHash, number, (name) => new Uint8Array(keys.get(name)!)),
    );
    const machines = new CohortMachines(prefix, terms);
    const entries = await journal.entries(SPACE, prefix);
    await machines.#rebuild(record(), entries);
    return machines;
  }

  /**
   * Takes an answer to the current step. The caller puts its sender into the record and commits the returned write with it, before anything
   * else happens: the state is changed already.
   * @throws SecaggFault; the state is what it was
   */
  take(record: RoundRecord, participant: string, answer: StepAnswer): Write {
    const number = record.secure!.cohorts.findIndex(({ members }) => members.includes(participant));
    const state = this.#at(record, number);
    this.#states[number] = this.#received(number, state, participant, answer);
    const key = `${this.#prefix}${number}/${answer.$case}/${participant}`;
    return { put: { space: SPACE, key, value: encode(answer) } };
  }

  /** @throws SecaggFault what take() would throw; nothing changes */
  check(record: RoundRecord, participant: string, answer: StepAnswer): void {
    const number = record.secure!.cohorts.findIndex(({ members }) => members.includes(participant));
    this.#received(number, this.#at(record, number), participant, answer);
  }

  /** What its cohort's step asks of this member; undefined: nothing. */
  requestFor(record: RoundRecord, participant: string): CoordinatorMessage | undefined {
    const number = record.secure!.cohorts.findIndex(({ members }) => members.includes(participant));
    if (record.secure!.cohorts[number]!.failure) return undefined;
    return requestFor(this.terms[number]!, this.#at(record, number), this.#indexOf(number, participant));
  }

  state(record: RoundRecord, number: number): CohortState {
    return this.#at(record, number);
  }

  async #rebuild(record: RoundRecord, entries: Array<{ key: string; value: Uint8Array }>): Promise<void> {
    let taken = 0;
    const answers = entries.map(({ key, value }) => ({ ...parseKey(key), value }));
    for (const [number, cohort] of record.secure!.cohorts.entries()) {
      // Nobody is asked anything any more.
      if (cohort.failure) continue;
      for (const step of COHORT_STEPS) {
        const own = answers.filter((one) => one.number === number && one.step === step);
        for (const { participant, value } of own) {
          const answer = decode(step, value);
          this.#states[number] = this.#received(number, this.#states[number]!, participant, answer);
          // Each costs a check of a signature or two; nobody can use the states before all of them are back.
          if (++taken % ANSWERS_AT_ONCE === 0) await setImmediate();
        }
        if (step === cohort.step) break;
        this.#close(number, cohort);
      }
    }
  }

  #received(number: number, state: CohortState, participant: string, answer: StepAnswer): CohortState {
    const terms = this.terms[number]!;
    const index = this.#indexOf(number, participant);
    if (answer.$case !== "mask") return receive(terms, state, index, answer);
    const { root, signature } = answer.value;
    return receiveInput(terms, state, { index, root, signature, byteLength: terms.byteLength });
  }

  #at(record: RoundRecord, number: number): CohortState {
    const cohort = record.secure!.cohorts[number]!;
    while (isBefore(this.#states[number]!.step, cohort.step)) this.#close(number, cohort);
    return this.#states[number]!;
  }

  #close(number: number, cohort: Cohort): void {
    const state = this.#states[number]!;
    const only = closedSet(cohort, state.step).map((name) => this.#indexOf(number, name));
    this.#states[number] = closeStep(this.terms[number]!, state, only);
  }

  #indexOf(number: number, participant: string): number {
    return this.terms[number]!.members.findIndex((member) => member.participant === participant) + 1;
  }
}

/** For the attempt's end. */
export async function forgetAnswers(journal: Journal, of: Pick<RoundRecord, "uid" | "attempt">): Promise<Write[]> {
  const entries = await journal.entries(SPACE, prefixOf(of));
  return entries.map(({ key }) => ({ remove: { space: SPACE, key } }));
}

/** None is the beginning of another: what an attempt leaves is removed while the next one runs. */
function prefixOf({ uid, attempt }: Pick<RoundRecord, "uid" | "attempt">): string {
  return attempt === 1 ? `${uid}/` : `${uid}@${attempt}/`;
}

/** Whose answers to this closed step the record counts: those whom the next step asks. */
function closedSet(cohort: Cohort, step: CohortStep): readonly string[] {
  if (step === "unmask") return cohort.answered;
  return asked({ ...cohort, step: COHORT_STEPS[COHORT_STEPS.indexOf(step) + 1]! });
}

function isBefore(step: CohortStep, other: CohortStep): boolean {
  return COHORT_STEPS.indexOf(step) < COHORT_STEPS.indexOf(other);
}

const types = { advertise: Advertise, share: ShareKeys, mask: SignedInput, consistency: Consistency, unmask: Unmask };

/** As on the wire, without the work: the key says whose and which. */
function encode(answer: StepAnswer): Uint8Array {
  switch (answer.$case) {
    case "advertise":
      return Advertise.encode({ work: undefined, planHash: new Uint8Array(), advertisement: answer.value }).finish();
    case "share":
      return ShareKeys.encode({ work: undefined, ...answer.value }).finish();
    case "mask":
      return SignedInput.encode(answer.value).finish();
    case "consistency":
      return Consistency.encode({ work: undefined, ...answer.value }).finish();
    case "unmask":
      return Unmask.encode({
        work: undefined,
        shares: answer.value.shares.map(({ index, share }) => ({ index, share })),
      }).finish();
  }
}

function decode(step: CohortStep, bytes: Uint8Array): StepAnswer {
  if (step === "complete") throw new Error("no answer belongs to a complete cohort");
  const value = types[step].decode(bytes);
  return step === "advertise"
    ? { $case: step, value: (value as Advertise).advertisement! }
    : ({ $case: step, value } as StepAnswer);
}

function parseKey(key: string): { number: number; step: string; participant: string } {
  const [, number, step, participant] = key.split("/");
  return { number: Number(number), step: step!, participant: participant! };
}
