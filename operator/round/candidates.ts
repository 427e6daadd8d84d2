/** Of whose contributions a candidate is made, and how the round goes on once it is there. */
import { enter, type RoundRecord } from "./record.ts";
import type { Decision } from "./world.ts";

export function contributing(record: RoundRecord) {
  const names = new Set(record.participants.filter((p) => p.state === "Contributed").map((p) => p.name));
  return record.contributions.filter((c) => names.has(c.participant));
}

export function publishNext(
  record: RoundRecord,
  candidate: { digest: string; file: string; byteLength: number },
  nowMs: number,
): Decision {
  const { digest, file, byteLength } = candidate;
  const next: RoundRecord = {
    ...enter(record, "Publishing", nowMs),
    candidate: { digest, file, byteLength, contributors: contributing(record).length },
  };
  return { record: next, actions: [{ do: "publish" }], lookAgainAtMs: nowMs + record.aggregationMs! };
}
