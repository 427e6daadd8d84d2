/** How a round leaves its phases for good: the outcome, who has to be told, and the cleaning up. */
import { hasReleased } from "./cohorts.ts";
import type { RoundFault } from "./faults.ts";
import { outcomeOf } from "./outcome.ts";
import { isOut, sentence } from "./participants.ts";
import { enter, type RoundRecord } from "./record.ts";
import type { Action, Decision } from "./world.ts";

/** The round has ended for those who work on it, and in a secure round for those too who keep secrets of it. */
function working(record: RoundRecord): string[] {
  return record.participants.filter((p) => !isOut(p) && !hasReleased(record, p.name)).map((p) => p.name);
}

export function fail(record: RoundRecord, fault: RoundFault, nowMs: number, before: Action[] = []): Decision {
  const outcome = outcomeOf(fault);
  const participants = working(record);
  const tell: Action[] =
    participants.length === 0
      ? []
      : [{ do: "cancel", participants, reason: outcome.reason, message: sentence(outcome.message) }];
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
  const waiting = working(record);
  return {
    record: {
      ...enter(record, "Succeeded", nowMs),
      outcome: {
        reason: "Published",
        message: `version ${published.version} from ${record.candidate!.contributors} of ${record.participants.length} participants is at ${published.reference}`,
      },
    },
    actions: [
      ...(waiting.length === 0
        ? []
        : [{ do: "cancel", participants: waiting, reason: "RoundEnded", message: "the round has ended" } as const]),
      { do: "cleanUp" },
    ],
  };
}
