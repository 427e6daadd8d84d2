/**
 * Pending: may this round begin? → Planning | Failed.
 * What cannot be mended by waiting fails within seconds; an earlier round of the federation is waited for as long as it runs
 * (it has deadlines of its own), a suspended federation until somebody resumes it, version 0 of the adapter as long as its Job may take.
 */
import { fail } from "./end.ts";
import type { RoundFault } from "./faults.ts";
import { outcomeOf } from "./outcome.ts";
import { enter, type RoundRecord } from "./record.ts";
import { canBeInvited, type Decision, type FederationView, type World } from "./world.ts";

/** `kubectl apply -f folder/` and GitOps create a round before its Federation and Participants: some seconds, in no fixed order. */
export const APPLY_GRACE_MS = 10_000;
/** A little more than the initialise Job's own limit (controllers/federation), so that its sentence is the one that is read. */
export const INITIALISE_LIMIT_MS = 35 * 60_000;

/** For a full volume: somebody has to make it larger, or to delete what fills it. */
export const STORAGE_LIMIT_MS = 60 * 60_000;

const EARLIER = "EarlierRound";
const SUSPENDED = "Suspended";
const isUnlimited = (reason: string | undefined) => reason === EARLIER || reason === SUSPENDED;

export function followPending(record: RoundRecord, world: World): Decision {
  if (world.federation.kind === "unknown")
    return waitOrFail(record, world, { code: "FederationNotFound", federation: record.federation }, APPLY_GRACE_MS);
  if (world.federation.kind === "invalid") {
    const { problem } = world.federation;
    return fail(record, { code: "InvalidSettings", federation: record.federation, problem }, world.nowMs);
  }
  if (world.federation.suspended)
    return wait(
      record,
      world,
      SUSPENDED,
      `Federation "${record.federation}" is suspended; it begins when spec.suspend is false`,
    );
  if (world.earlier !== undefined)
    return wait(record, world, EARLIER, `${world.earlier} of the same federation has not ended`);
  if (world.storage)
    return waitOrFail(record, world, { code: "StorageFull", problem: world.storage.problem }, STORAGE_LIMIT_MS);
  const shortage = tooFew(world.federation);
  if (shortage) return waitOrFail(record, world, shortage, APPLY_GRACE_MS);
  const { adapter } = world.federation;
  if (adapter.kind === "failed") {
    const fault = { code: "InitialiseFailed", federation: record.federation, problem: adapter.problem } as const;
    return fail(record, fault, world.nowMs);
  }
  if (adapter.kind === "making") {
    const problem = "version 0 is still being made";
    const fault = { code: "InitialiseFailed", federation: record.federation, problem } as const;
    return waitOrFail(record, world, fault, INITIALISE_LIMIT_MS);
  }
  return { record: enter(record, "Planning", world.nowMs), actions: [{ do: "plan" }], lookAgainAtMs: world.nowMs };
}

function tooFew(federation: Extract<FederationView, { kind: "known" }>): RoundFault | undefined {
  const available = federation.candidates.filter(canBeInvited).length;
  if (available >= federation.terms.minimum) return undefined;
  return {
    code: "TooFewParticipants",
    minimum: federation.terms.minimum,
    available,
    notEnrolled: federation.candidates.filter((c) => !c.enrolled && !c.suspended).map((c) => c.name),
    suspended: federation.candidates.filter((c) => c.suspended).map((c) => c.name),
    leftOut: federation.candidates.filter((c) => c.leftOut && c.enrolled && !c.suspended).map((c) => c.name),
  };
}

/** For as long as it takes: somebody will end it, or the earlier round's own deadlines do. */
function wait(record: RoundRecord, world: World, reason: string, message: string): Decision {
  return { record: waitingFor(record, { for: reason, message, sinceMs: world.nowMs }), actions: [] };
}

/** The clock runs on when one reason follows another, so that a world that flickers cannot hold a round for ever. */
function waitOrFail(record: RoundRecord, world: World, fault: RoundFault, limitMs: number): Decision {
  const before = isUnlimited(record.waiting?.for) ? undefined : record.waiting;
  const sinceMs = before?.sinceMs ?? world.nowMs;
  if (world.nowMs >= sinceMs + limitMs) return fail(record, fault, world.nowMs);
  const waiting = { for: fault.code, message: outcomeOf(fault).message, sinceMs };
  return { record: waitingFor(record, waiting), actions: [], lookAgainAtMs: sinceMs + limitMs };
}

/** The very same record when nothing is new: it is not written again. */
function waitingFor(record: RoundRecord, waiting: NonNullable<RoundRecord["waiting"]>): RoundRecord {
  const { waiting: before } = record;
  return before?.for === waiting.for && before.message === waiting.message ? record : { ...record, waiting };
}
