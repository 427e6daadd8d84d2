/**
 * A victim of a lying coordinator, for tests: what an honest coordinator would ask it now, and that a lie ends its session with nothing released.
 */
import { expect } from "vitest";
import { sha256, utf8 } from "../bytes.ts";
import { requestFor } from "../coordinator/cohort.ts";
import type { SecaggCode } from "../faults.ts";
import type { CoordinatorMessage } from "../messages.ts";
import type { ParticipantState } from "../participant/state.ts";
import { storedState } from "../participant/stored.ts";
import { testCohort } from "./cohort.ts";
import { react, runTo, type World } from "./conduct.ts";

// n = 6, t = 5: one member may be lost, and the coordinator has one of the members on its side.
export const cohort = testCohort(6);
export const VICTIM = 2;
export const OTHER = 4;
export const ACCOMPLICE = 6;
export const STRANGER = 7;

/** The same members with other session keys under the same terms. */
export const earlier = testCohort(6, { seed: "earlier" });
/** The same members with the same session keys, told of another parent adapter. */
export const otherAdapter = testCohort(6, { adapter: sha256(utf8("an adapter that only the victim is given")) });

/** What an honest coordinator would ask of this member now. */
export function request(world: World, index: number): CoordinatorMessage {
  const { state } = world;
  const honest = requestFor(cohort.terms, { ...state, answers: new Map() }, index);
  if (!honest) throw new Error(`step ${state.step} asks nothing of member ${index}`);
  return honest;
}

/** Shows the lie to the member; then everything that an honest coordinator would say, to see that it stays silent. */
export function expectAbort(
  world: World,
  index: number,
  lie: CoordinatorMessage,
  code: SecaggCode,
  of = cohort,
): ParticipantState {
  const before = world.participants.get(index)!;
  const { next, message, upload } = react(of, index, before, lie);
  expect(next).toMatchObject({ kind: "Aborted", from: before.kind, code });
  expect(message).toBeUndefined();
  expect(upload).toBeUndefined();
  expectNoSecret(before, next);
  for (const step of ["share", "mask", "consistency", "unmask"] as const) {
    const later = react(of, index, next, request(runTo(of, step), index));
    expect(later).toEqual({ next, message: undefined, upload: undefined });
  }
  return next;
}

export function expectNoSecret(before: ParticipantState, after: ParticipantState): void {
  const secrets = "secrets" in before ? bytesIn(before.secrets) : [];
  const stored = storedState(after);
  expect(secrets.length).toBeGreaterThan(0);
  expect(stored.secrets).toBeUndefined();
  for (const secret of secrets) expect(stored.open).not.toContain(Buffer.from(secret).toString("base64"));
}

export function bytesIn(value: unknown): Uint8Array[] {
  if (value instanceof Uint8Array) return [value];
  return typeof value === "object" && value !== null ? Object.values(value).flatMap(bytesIn) : [];
}

export function t1Of({ state }: World): Uint8Array {
  if (!("t1" in state)) throw new Error(state.step);
  return state.t1;
}

export function t2Of({ state }: World): Uint8Array {
  if (!("t2" in state)) throw new Error(state.step);
  return state.t2;
}
