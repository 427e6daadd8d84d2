/**
 * Asks the members of a secure round's cohorts what their step asks, and has the masks of a complete cohort removed.
 * Nothing waits for the others: who comes later is asked then, once per session and step.
 */
import { cohortOf } from "../../../round/cohorts.ts";
import type { RoundRecord } from "../../../round/record.ts";
import type { Context } from "../../context.ts";
import type { Workplace } from "../workplace.ts";
import { workOf } from "./messages.ts";

export async function announce(
  context: Context,
  workplace: Workplace,
  record: RoundRecord,
  participants: readonly string[],
): Promise<void> {
  const machines = await workplace.machines(record);
  // What has come meanwhile need not be asked for, and nothing of an attempt that has ended meanwhile.
  const now = workplace.desk.get(record.uid);
  if (now?.attempt !== record.attempt || !now.secure) return;
  for (const participant of participants) {
    const session = context.attendance.session(participant);
    const { cohort } = cohortOf(now, participant)!;
    const step = session && machines.requestFor(now, participant);
    if (!step || !context.attendance.firstTime(session, `step ${now.uid} ${now.attempt} ${cohort.step}`)) continue;
    session.sendStep({ work: workOf(context, now, participant, "step"), step });
  }
}

/** Again: nothing happens. */
export async function unmask(workplace: Workplace, record: RoundRecord, number: number): Promise<void> {
  const [sum, machines] = await Promise.all([workplace.secureSum(record), workplace.machines(record)]);
  const state = machines.state(record, number);
  if (state.step !== "complete") throw new Error(`cohort ${number} is not complete`);
  const u3 = new Set(record.secure!.cohorts[number]!.u3);
  const inputs = record.contributions.filter(({ participant }) => u3.has(participant));
  sum.unmask(
    number,
    state,
    inputs.map(({ participant, file }) => ({ participant, file })),
  );
}
