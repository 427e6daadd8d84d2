/**
 * Both sides of one session in one process, step by step: whoever is asked answers, and the test says whose answers count.
 * Holds: everything is immutable, so that many continuations can start from one world.
 */
import {
  asked,
  type CohortState,
  type CohortStep,
  closeStep,
  openCohort,
  receive,
  receiveInput,
  requestFor,
} from "../coordinator/cohort.ts";
import { recover } from "../coordinator/recover.ts";
import type { CoordinatorMessage, ParticipantMessage } from "../messages.ts";
import { advertise } from "../participant/advertise.ts";
import { masked } from "../participant/masked-input.ts";
import { receive as receiveAsParticipant } from "../participant/session.ts";
import type { Aborted, ParticipantState } from "../participant/state.ts";
import { ELEMENTS, type TestCohort } from "./cohort.ts";
import { inputOf, rootOf, sumOf, withMasks } from "./vectors.ts";

export interface World {
  state: CohortState;
  participants: ReadonlyMap<number, ParticipantState>;
  /** Masked vectors, as they were uploaded. */
  uploads: ReadonlyMap<number, Uint32Array>;
}

/** What a member does with a request. */
export interface Reaction {
  next: ParticipantState;
  message?: ParticipantMessage | undefined;
  upload?: Uint32Array | undefined;
}

export const begin = (): World => ({ state: openCohort(), participants: new Map(), uploads: new Map() });

/** A member's own side: request in; next state and what it sends out. An abort sends nothing. */
export function react(
  cohort: TestCohort,
  index: number,
  state: ParticipantState,
  request: CoordinatorMessage,
): Reaction {
  const deps = cohort.deps(index, state.kind);
  const outcome = receiveAsParticipant(deps, state, request);
  switch (outcome.kind) {
    case "send":
      return { next: outcome.next, message: outcome.message };
    case "mask": {
      if (state.kind !== "Shared") throw new Error(`masks in state ${state.kind}`);
      const upload = withMasks(inputOf(index), outcome.opened.keys);
      return {
        next: masked(deps, state, outcome.opened, { root: rootOf(upload), byteLength: 4 * ELEMENTS }),
        upload,
      };
    }
    case "abort":
      return { next: outcome.next };
    case "repeat":
      return { next: state, message: outcome.message };
    default:
      return { next: state };
  }
}

/** Everybody who is asked answers, and the coordinator takes it. */
export function everybodyAnswers(cohort: TestCohort, world: World): World {
  const participants = new Map(world.participants);
  const uploads = new Map(world.uploads);
  let { state } = world;
  for (const index of asked(cohort.terms, world.state)) {
    const { next, message, upload } = answerOf(cohort, world, index);
    if (next.kind === "Aborted") throw new Error(`member ${index} aborted: ${describe(next)}`);
    participants.set(index, next);
    if (message) state = receive(cohort.terms, state, index, message);
    if (upload && next.kind === "Masked") {
      uploads.set(index, upload);
      state = receiveInput(cohort.terms, state, { index, ...next.input });
    }
  }
  return { state, participants, uploads };
}

/** Ends the step; only the answers of `members` count. @throws SecaggFault "CohortTooSmall" */
export const close = (cohort: TestCohort, world: World, members?: readonly number[]): World => ({
  ...world,
  state: closeStep(cohort.terms, world.state, members),
});

/**
 * The world in which a step is about to ask. Made once for each cohort and list of the lost, then kept.
 * @param lost  who is lost in which step before it
 */
export function runTo(cohort: TestCohort, step: CohortStep, lost: Lost = {}): World {
  const made = worlds.get(cohort) ?? new Map<string, World>();
  worlds.set(cohort, made);
  const key = step + JSON.stringify(lost);
  const world = made.get(key) ?? run(cohort, step, lost);
  made.set(key, world);
  return world;
}

export type Lost = { [S in CohortStep]?: readonly number[] };

const worlds = new WeakMap<TestCohort, Map<string, World>>();

function run(cohort: TestCohort, step: CohortStep, lost: Lost): World {
  let world = begin();
  while (world.state.step !== step) {
    const gone = new Set(lost[world.state.step]);
    const stays = asked(cohort.terms, world.state).filter((index) => !gone.has(index));
    world = close(cohort, everybodyAnswers(cohort, world), stays);
  }
  return world;
}

/** The sum that the coordinator publishes of a complete cohort. */
export function unmaskedSum(cohort: TestCohort, { state, uploads }: World): Uint32Array {
  if (state.step !== "complete") throw new Error(`nothing to unmask in step ${state.step}`);
  const sum = sumOf(state.u3.map(({ index }) => uploads.get(index)!));
  return withMasks(sum, recover(cohort.terms, state).keys);
}

/** The plain sum of what the members of U3 put in. */
export function plainSum({ state }: World): Uint32Array {
  if (!("u3" in state)) throw new Error(`no U3 in step ${state.step}`);
  return sumOf(state.u3.map(({ index }) => inputOf(index)));
}

function answerOf(cohort: TestCohort, { state, participants }: World, index: number): Reaction {
  if (state.step === "advertise") return advertise(cohort.deps(index));
  return react(cohort, index, participants.get(index)!, requestFor(cohort.terms, state, index)!);
}

const describe = ({ code, message }: Aborted) => `${code}, ${message}`;
