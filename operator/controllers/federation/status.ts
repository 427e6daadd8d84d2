/**
 * A Federation's status out of what was observed. Pure.
 * Holds: Ready says whether rounds can start, in one sentence; succeeded, failed and cancelled count all rounds there ever were.
 */
import {
  type Condition,
  type Outcome,
  PARTICIPANTS_AVAILABLE,
  READY,
  setCondition,
  summarise,
} from "../../api/conditions.ts";
import type { FederationStatus } from "../../api/federation.ts";
import { type Candidate, canBeInvited } from "../../round/world.ts";
import type { TallyRow } from "../tally.ts";
import type { ActiveVersion } from "../versions.ts";
import type { InitialState } from "./initial-state.ts";
import type { NextRound } from "./next-round.ts";

export interface FederationWorld {
  nowMs: number;
  generation: number;
  minimum: number;
  candidates: readonly Candidate[];
  connected: ReadonlySet<string>;
  initial: InitialState;
  active?: ActiveVersion;
  tally: Pick<TallyRow, "succeeded" | "failed" | "cancelled">;
  /** A round that has not ended. */
  current?: string;
  next: NextRound;
}

export function statusOf(world: FederationWorld, before: readonly Condition[]): FederationStatus {
  const at = { observedGeneration: world.generation, nowMs: world.nowMs };
  const participants = availability(world);
  const conditions = setCondition(
    before,
    { type: PARTICIPANTS_AVAILABLE, ...participants, observedGeneration: world.generation },
    world.nowMs,
  );
  const { active, current, tally } = world;
  return {
    observedGeneration: world.generation,
    conditions: summarise(conditions, READY, readiness(world, participants), at),
    ...(active && {
      activeAdapter: {
        version: active.version,
        name: active.name,
        digest: active.digest,
        reference: active.reference,
      },
    }),
    rounds: {
      succeeded: tally.succeeded,
      failed: tally.failed,
      cancelled: tally.cancelled,
      ...(current !== undefined && { current }),
    },
  };
}

export function isAvailable(world: Pick<FederationWorld, "candidates" | "connected" | "minimum">): boolean {
  return available(world) >= world.minimum;
}

function available({ candidates, connected }: Pick<FederationWorld, "candidates" | "connected">): number {
  return candidates.filter((candidate) => canBeInvited(candidate) && connected.has(candidate.name)).length;
}

function availability(world: FederationWorld) {
  const count = available(world);
  const message = `${count} of ${world.candidates.length} matching participants are enrolled and connected, ${world.minimum} are needed`;
  return count >= world.minimum
    ? ({ status: "True", reason: "EnoughParticipants", message } as const)
    : ({ status: "False", reason: "TooFewParticipants", message } as const);
}

function readiness(world: FederationWorld, participants: ReturnType<typeof availability>): Outcome {
  const { next, initial, active, current } = world;
  if (next.kind === "suspended") {
    const meanwhile = current === undefined ? "" : `; ${current} runs to its end`;
    return { state: "waiting", reason: "Suspended", message: `spec.suspend: no round starts${meanwhile}` };
  }
  if (initial.kind === "failed") return { state: "stalled", reason: "InitialiseFailed", message: initial.problem };
  if (initial.kind === "making")
    return { state: "progressing", reason: "Initialising", message: initial.message ?? "version 0 is being made" };
  if (next.kind === "failing") return { state: "stalled", reason: "RoundsFailing", message: next.message };
  if (next.kind === "ended")
    return { state: "done", reason: next.reason, message: `${next.message}; active is version ${active?.version}` };
  if (participants.status === "False")
    return { state: "waiting", reason: participants.reason, message: participants.message };
  const when = next.kind === "pausing" ? `; the next at ${instant(next.untilMs)}` : "";
  return { state: "done", reason: "Ready", message: `rounds start from version ${active?.version}${when}` };
}

function instant(ms: number): string {
  return new Date(ms).toISOString();
}
