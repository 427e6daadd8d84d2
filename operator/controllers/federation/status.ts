/**
 * A Federation's status out of what was observed. Pure.
 * Holds: Ready says whether rounds can start, in one sentence; succeeded and failed count the rounds that exist.
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
import type { ActiveVersion } from "../versions.ts";
import type { InitialState } from "./initial-state.ts";

export interface FederationWorld {
  nowMs: number;
  generation: number;
  minimum: number;
  candidates: readonly Candidate[];
  connected: ReadonlySet<string>;
  initial: InitialState;
  active?: ActiveVersion;
  rounds: {
    succeeded: number;
    failed: number;
    cancelled: number;
    current?: string /** Of spec.rounds.count, all created and ended. */;
    done: boolean;
  };
}

export function statusOf(world: FederationWorld, before: readonly Condition[]): FederationStatus {
  const at = { observedGeneration: world.generation, nowMs: world.nowMs };
  const participants = availability(world);
  const conditions = setCondition(
    before,
    { type: PARTICIPANTS_AVAILABLE, ...participants, observedGeneration: world.generation },
    world.nowMs,
  );
  const { active, rounds } = world;
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
      succeeded: rounds.succeeded,
      failed: rounds.failed,
      cancelled: rounds.cancelled,
      ...(rounds.current !== undefined && { current: rounds.current }),
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
  if (world.initial.kind === "failed")
    return { state: "stalled", reason: "InitialiseFailed", message: world.initial.problem.slice(0, 1024) };
  if (world.initial.kind === "making")
    return {
      state: "progressing",
      reason: "Initialising",
      message: world.initial.message ?? "version 0 is being made",
    };
  if (world.rounds.done)
    return {
      state: "done",
      reason: "RoundsDone",
      message: `all rounds have run; active is version ${world.active?.version}`,
    };
  if (participants.status === "False")
    return { state: "waiting", reason: participants.reason, message: participants.message };
  return { state: "done", reason: "Ready", message: `rounds start from version ${world.active?.version}` };
}
