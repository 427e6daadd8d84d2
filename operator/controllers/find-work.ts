/** Which round the work that an agent names belongs to. */
import type { RoundRecord } from "../round/record.ts";
import { TransportFault } from "../transport/faults.ts";
import type { Work } from "../transport/generated/rondo.v1.ts";
import { type Context, federationName } from "./context.ts";
import type { Workplace } from "./round/workplace.ts";

/** The record of this work, if it is this participant's; it may have come to a later attempt. */
export async function findWork(
  context: Context,
  { desk }: Pick<Workplace, "desk">,
  work: Work | undefined,
  participant: string,
): Promise<RoundRecord | undefined> {
  if (!work || work.participant !== participant || work.purpose !== "delta") return undefined;
  const federation = federationName(context, work.federation);
  const record = federation === undefined ? undefined : await desk.numbered(federation, work.round);
  if (record && work.attempt > record.attempt) return undefined;
  return record?.participants.some(({ name }) => name === participant) ? record : undefined;
}

/** @throws TransportFault "NotExpected" */
export function checkPlan(record: RoundRecord, planHash: Uint8Array): void {
  if (Buffer.from(planHash).toString("hex") !== record.plan?.hash)
    throw new TransportFault("NotExpected", "this speaks of another plan than the one that this round has");
}
