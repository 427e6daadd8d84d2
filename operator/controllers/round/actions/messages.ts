/**
 * Plans and cancellations to agents that are connected. Nothing waits for the others: who comes later is sent what is still
 * open then (coordinator.ts), and says itself which rounds it works on, so that what has ended is cancelled there.
 */
import type { RoundRecord } from "../../../round/record.ts";
import type { Work } from "../../../transport/generated/rondo.v1.ts";
import { type Context, federationId } from "../../context.ts";
import type { Workplace } from "../workplace.ts";

export async function sendPlan(
  context: Context,
  workplace: Workplace,
  record: RoundRecord,
  participants: readonly string[],
): Promise<void> {
  const key = `plan ${record.uid} ${record.attempt}`;
  const sessions = participants.flatMap((name) => context.attendance.session(name) ?? []);
  if (sessions.length === 0) return;
  const { signed } = await workplace.plan(record);
  for (const session of sessions) if (context.attendance.firstTime(session, key)) session.sendPlan(signed);
}

export function sendCancellation(
  context: Context,
  record: RoundRecord,
  { participants, reason, message }: { participants: readonly string[]; reason: string; message: string },
): void {
  if (record.number === undefined) return;
  for (const participant of participants) {
    const work = workOf(context, record, participant, "cancel");
    context.attendance.session(participant)?.sendCancellation(work, reason, message);
  }
}

export function workOf(context: Context, record: RoundRecord, participant: string, step: string): Work {
  return {
    federation: federationId(context, record.federation),
    round: record.number!,
    attempt: record.attempt,
    purpose: "delta",
    participant,
    step,
  };
}
