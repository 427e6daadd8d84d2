/**
 * Aggregating: the last uploads arrive, the sum is completed, the candidate is written. → Publishing | Failed.
 * A contribution that cannot be opened is Excluded; the candidate is made of those that could, if they are enough.
 */
import { candidateFault, contributing, makeCandidate, publishNext } from "./candidates.ts";
import { fail } from "./end.ts";
import { allSettled, nextDeadline, quorumFault, sift } from "./members.ts";
import type { RoundRecord } from "./record.ts";
import { followSecureAggregating } from "./secure-aggregating.ts";
import { leaveStragglers } from "./stragglers.ts";
import { addUp } from "./training.ts";
import type { Decision, World } from "./world.ts";

export function followAggregating(before: RoundRecord, world: World): Decision {
  if (before.secure) return followSecureAggregating(before, world);
  const { record, actions } = leaveStragglers(sift(before, world), world);
  const fault = quorumFault(record);
  if (fault) return fail(record, fault, world.nowMs, actions);
  if (world.candidate?.kind === "made") return publishNext(record, world.candidate, world.nowMs);
  // The last upload may come at the last moment: adding up has the same time again.
  const endMs = record.deadlines!.aggregationMs + record.aggregationMs!;
  const failure = candidateFault(world, endMs);
  if (failure) return fail(record, failure, world.nowMs, actions);
  const missing = addUp(record, world);
  const counted = contributing(record);
  const complete = allSettled(record) && missing.length === 0 && counted.length > 0;
  const make = complete ? makeCandidate(counted, world) : { actions: [] };
  return {
    record,
    actions: [...actions, ...missing, ...make.actions],
    lookAgainAtMs: Math.min(make.againMs ?? endMs, allSettled(record) ? endMs : nextDeadline(record, world)),
  };
}
