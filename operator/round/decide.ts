/**
 * The round as a pure state machine: record and world in, next record and actions out (architecture.md, style.md 8).
 * Holds: every phase ends, by what happens or by a deadline; a terminal record never changes again.
 * Does not: take in what agents report (reports.ts) or do anything (controllers/round/actions).
 */
import { followAggregating } from "./aggregating.ts";
import { fail } from "./end.ts";
import { followPending } from "./pending.ts";
import { followPlanning } from "./planning.ts";
import { endsPublishing, followPublishing } from "./publishing.ts";
import { isTerminal, type RoundRecord } from "./record.ts";
import { followTraining } from "./training.ts";
import type { Decision, World } from "./world.ts";

export function decide(record: RoundRecord, world: World): Decision {
  if (isTerminal(record)) return { record, actions: [{ do: "cleanUp" }] };
  return withStorage(step(record, world), world);
}

function step(record: RoundRecord, world: World): Decision {
  if (world.deleting || world.cancelled) {
    const by = world.deleting ? "deletion" : "spec";
    return endsPublishing(record, world) ?? fail(record, { code: "Cancelled", by }, world.nowMs);
  }
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

/** What runs goes on while the operator's volume is full, by its own deadlines; it only says why nothing more comes in. */
function withStorage(decision: Decision, { storage, nowMs }: World): Decision {
  const { record } = decision;
  // A round that has not begun waits for room, and for nothing else (pending.ts).
  if (isTerminal(record) || record.phase === "Pending") return decision;
  const { waiting, ...others } = record;
  if (!storage) return waiting?.for === "StorageFull" ? { ...decision, record: others } : decision;
  if (waiting?.message === storage.problem) return decision;
  const since = { for: "StorageFull", message: storage.problem, sinceMs: waiting?.sinceMs ?? nowMs };
  return { ...decision, record: { ...record, waiting: since } };
}

/** A new phase does not compile until it is decided above. */
function unreachable(phase: never): never {
  throw new Error(`no rule for phase ${String(phase)}`);
}
