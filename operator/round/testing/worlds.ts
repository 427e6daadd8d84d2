/** Builders for the tests of operator/round: a record in a given phase and a quiet world, from which a case says only what differs. */
import type { ParticipantState } from "../../api/federation-round.ts";
import { newRecord, type RoundParticipant, type RoundRecord } from "../record.ts";
import type { Terms, World } from "../world.ts";

export const T0 = 1_800_000_000_000;
export const TERMS: Terms = { minimum: 2, acceptMs: 60_000, trainingMs: 600_000, aggregationMs: 120_000, retries: 1 };
export const NAMES = ["ann", "ben", "cy"];

export function world(over: Partial<World> = {}): World {
  return {
    nowMs: T0,
    deleting: false,
    cancelled: false,
    federation: {
      kind: "known",
      suspended: false,
      terms: TERMS,
      candidates: NAMES.map((name) => ({ name, enrolled: true, suspended: false })),
      adapter: { kind: "ready" },
    },
    connected: new Set(NAMES),
    revoked: new Set(),
    sum: { added: [], refused: [] },
    publishing: false,
    activated: false,
    ...over,
  };
}

export function known() {
  return world().federation as Extract<World["federation"], { kind: "known" }>;
}

export function pending(): RoundRecord {
  return newRecord({ name: "fed-r1", uid: "u1", federation: "fed" }, T0);
}

export function participant(name: string, state: ParticipantState, over: Partial<RoundParticipant> = {}) {
  return { name, state, job: "", reason: "", message: "", sinceMs: T0, ...over } satisfies RoundParticipant;
}

/** In Training since T0, one participant per state given, named ann, ben, cy in that order. */
export function training(...states: ParticipantState[]): RoundRecord {
  const started: ParticipantState[] = ["Training", "Trained", "Sharing", "Contributed"];
  return {
    ...pending(),
    phase: "Training",
    phaseTimes: [
      { phase: "Pending", atMs: T0 },
      { phase: "Planning", atMs: T0 },
      { phase: "Training", atMs: T0 },
    ],
    number: 1,
    plan: { hash: "ab", parentVersion: 0, minimum: 2, uploadLimitBytes: 1000, parentByteLength: 500 },
    deadlines: { acceptMs: T0 + 60_000, trainingMs: T0 + 600_000, aggregationMs: T0 + 720_000 },
    aggregationMs: 120_000,
    participants: states.map((state, i) =>
      participant(NAMES[i]!, state, started.includes(state) ? { startedMs: T0 } : {}),
    ),
    contributions: states.flatMap((state, i) => (state === "Contributed" ? [contribution(NAMES[i]!)] : [])),
  };
}

export function aggregating(...states: ParticipantState[]): RoundRecord {
  const record = training(...states);
  return { ...record, phase: "Aggregating", phaseTimes: [...record.phaseTimes, { phase: "Aggregating", atMs: T0 }] };
}

export function publishing(): RoundRecord {
  const record = aggregating("Contributed", "Contributed", "Lost");
  return {
    ...record,
    phase: "Publishing",
    phaseTimes: [...record.phaseTimes, { phase: "Publishing", atMs: T0 }],
    candidate: { digest: "sha256:cc", file: "/adapters/cc", byteLength: 500, contributors: 2 },
  };
}

export function contribution(participant: string) {
  return { participant, root: "aa", byteLength: 100, file: `/spool/${participant}` };
}
