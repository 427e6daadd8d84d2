/** How a round leaves its phases for good: the outcome, who has to be told, and the cleaning up. */
import type { RoundFault } from "./faults.ts";
import { outcomeOf } from "./outcome.ts";
import { isSettled, sentence } from "./participants.ts";
import { enter, type RoundRecord } from "./record.ts";
import type { Action, Decision } from "./world.ts";

export function fail(record: RoundRecord, fault: RoundFault, nowMs: number, before: Action[] = []): Decision {
  const outcome = outcomeOf(fault);
  const working = record.participants.filter((p) => !isSettled(p)).map((p) => p.name);
  const tell: Action[] =
    working.length === 0
      ? []
      : [{ do: "cancel", participants: working, reason: outcome.reason, message: sentence(outcome.message) }];
  return {
    record: {
      ...enter(record, outcome.phase, nowMs),
      outcome: { reason: outcome.reason, message: outcome.message },
    },
    actions: [...before, ...tell, { do: "cleanUp" }],
  };
}

export function succeed(record: RoundRecord, nowMs: number): Decision {
  const published = record.published!;
  return {
    record: {
      ...enter(record, "Succeeded", nowMs),
      outcome: {
        reason: "Published",
        message: `version ${published.version} from ${record.candidate!.contributors} of ${record.participants.length} participants is at ${published.reference}`,
      },
    },
    actions: [{ do: "cleanUp" }],
  };
}
