/**
 * The round as a pure state machine: record and world in, next record and actions out (architecture.md, style.md 8).
 * Holds: every phase ends, by what happens or by a deadline; a terminal record never changes again.
 * Does not: take in what agents report (reports.ts) or do anything (controllers/round/actions).
 */
import { followAggregating } from "./aggregating.ts";
import { fail } from "./end.ts";
import { followPending } from "./pending.ts";
import { followPlanning } from "./planning.ts";
import { followPublishing } from "./publishing.ts";
import { isTerminal, type RoundRecord } from "./record.ts";
import { followTraining } from "./training.ts";
import type { Decision, World } from "./world.ts";

export function decide(record: RoundRecord, world: World): Decision {
  if (isTerminal(record)) return { record, actions: [{ do: "cleanUp" }] };
  if (world.deleting && !record.published) return fail(record, { code: "Cancelled" }, world.nowMs);
  switch (record.phase) {
    case "Pending":
      return followPending(record, world);
    case "Planning":
      return followPlanning(record, world);
    case "Training":
      return followTraining(record, world);
    case "Aggregating":
      return followAggregating(record, world);
    case "Publishing":
      return followPublishing(record, world);
    default:
      return unreachable(record.phase as never);
  }
}

/** A new phase does not compile until it is decided above. */
function unreachable(phase: never): never {
  throw new Error(`no rule for phase ${String(phase)}`);
}
