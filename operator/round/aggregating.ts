/**
 * Aggregating: the last uploads arrive, the sum is completed, the candidate is written. → Publishing | Failed.
 * A contribution that cannot be opened is Excluded; the candidate is made of those that could, if they are enough.
 */
import { contributing, publishNext } from "./candidates.ts";
import { fail } from "./end.ts";
import { allSettled, nextDeadline, quorumFault, sift } from "./members.ts";
import type { RoundRecord } from "./record.ts";
import { followSecureAggregating } from "./secure-aggregating.ts";
import { addUp } from "./training.ts";
import type { Decision, World } from "./world.ts";

export function followAggregating(before: RoundRecord, world: World): Decision {
  if (before.secure) return followSecureAggregating(before, world);
  const { record, actions } = sift(before, world);
  const fault = quorumFault(record);
  if (fault) return fail(record, fault, world.nowMs, actions);
  if (world.candidate?.kind === "made") return publishNext(record, world.candidate, world.nowMs);
  const problem = world.candidate?.problem ?? world.sum.problem;
  if (problem) return fail(record, { code: "AggregationFailed", problem }, world.nowMs, actions);
  // The last upload may come at the last moment: adding up has the same time again.
  const endMs = record.deadlines!.aggregationMs + record.aggregationMs!;
  if (world.nowMs >= endMs) return fail(record, { code: "DeadlineExceeded" }, world.nowMs, actions);
  const missing = addUp(record, world);
  const counted = contributing(record);
  const complete = allSettled(record) && missing.length === 0 && counted.length > 0;
  return {
    record,
    actions: [...actions, ...missing, ...(complete ? [{ do: "makeCandidate", contributions: counted } as const] : [])],
    lookAgainAtMs: allSettled(record) ? endMs : nextDeadline(record),
  };
}
