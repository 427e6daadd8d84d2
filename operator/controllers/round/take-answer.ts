/**
 * Takes what agents send for secure aggregation and for a draw: checked, then journalled in one commit with the record, then acknowledged.
 * Holds: an answer that the protocol refuses leaves no trace but its sender's state, with the fault's name and sentence: Excluded before its
 *   vector is counted; afterwards the vector stays and only its word is not waited for any more.
 * Does not: decide when a step ends (operator/round), nor ask for anything (actions/secagg.ts).
 */
import { type AnswerStep, applyAnswer, participantOf } from "../../round/cohorts.ts";
import { applyCommitment, applyNonce } from "../../round/drawing.ts";
import { isOut } from "../../round/participants.ts";
import { isTerminal, type RoundRecord } from "../../round/record.ts";
import { applyFault } from "../../round/reports.ts";
import { commitmentToNonce, type Draw, isCommitment } from "../../secagg/draw.ts";
import { type SecaggCode, SecaggFault } from "../../secagg/faults.ts";
import type { ParticipantMessage } from "../../secagg/messages.ts";
import type { AgentReport } from "../../transport/coordinator.ts";
import { type TransportCode, TransportFault } from "../../transport/faults.ts";
import { type Context, federationId } from "../context.ts";
import { identityOf } from "../selector.ts";
import { sendCancellation } from "./actions/messages.ts";
import type { StepAnswer } from "./cohort-machines.ts";
import type { Workplace } from "./workplace.ts";

/** Who speaks, of which attempt of which round. */
export interface Sender {
  uid: string;
  attempt: number;
  participant: string;
}

export type StepReport = Extract<AgentReport, { kind: AnswerStep }>;
export type DrawReport = Extract<AgentReport, { kind: "commit" | "reveal" }>;

export function isStepReport(report: AgentReport): report is StepReport {
  return ["advertise", "share", "consistency", "unmask"].includes(report.kind);
}

export function isDrawReport(report: AgentReport): report is DrawReport {
  return report.kind === "commit" || report.kind === "reveal";
}

/** @throws TransportFault "AttemptEnded"; another when it is refused for good, and the sender is Excluded by then */
export async function takeAnswer(
  context: Context,
  workplace: Workplace,
  sender: Sender,
  report: StepReport,
): Promise<void> {
  const { uid, participant } = sender;
  await taken(context, workplace, sender, messageOf(report), (now) =>
    applyAnswer(now, participant, report.kind, context.now()),
  );
  const record = workplace.desk.get(uid);
  if (record) context.log.debug({ round: record.name, participant, step: report.kind }, "answer taken");
}

/**
 * @param change  puts the sender into the record; applied in the same moment as the answer is taken
 * @throws TransportFault as takeAnswer
 */
export async function taken(
  context: Context,
  workplace: Workplace,
  sender: Sender,
  answer: StepAnswer,
  change: (record: RoundRecord) => RoundRecord,
): Promise<void> {
  await guarded(context, workplace, sender, (machines, record) => {
    const write = machines.take(record, sender.participant, answer);
    // Also when it is known: whoever repeats it is answered when the first one is on disk.
    return workplace.desk.update(sender.uid, change, [write]);
  });
}

/** @throws TransportFault as takeAnswer; otherwise nothing changes */
export async function checked(
  context: Context,
  workplace: Workplace,
  sender: Sender,
  answer: StepAnswer,
): Promise<void> {
  await guarded(context, workplace, sender, async (machines, record) =>
    machines.check(record, sender.participant, answer),
  );
}

async function guarded(
  context: Context,
  workplace: Workplace,
  { uid, attempt, participant }: Sender,
  work: (machines: Awaited<ReturnType<Workplace["machines"]>>, record: RoundRecord) => Promise<unknown>,
): Promise<void> {
  const machines = await workplace.machines({ uid, attempt }).catch((error: unknown) => {
    openIn(workplace, uid, attempt);
    throw error;
  });
  // What is written after the end would never be removed.
  const record = openIn(workplace, uid, attempt);
  try {
    await work(machines, record);
  } catch (error) {
    if (!(error instanceof SecaggFault)) throw error;
    await exclude(context, workplace, { uid, participant }, { reason: error.code, message: error.message });
    throw new TransportFault(TRANSPORT_CODES[error.code] ?? "MessageInvalid", error.message);
  }
}

/** @throws TransportFault "NotExpected" | "AttemptEnded" unless the round is open in this attempt */
function openIn({ desk }: Pick<Workplace, "desk">, uid: string, attempt: number): RoundRecord {
  const record = desk.get(uid);
  if (!record || isTerminal(record)) throw new TransportFault("NotExpected", "the round has ended or was deleted");
  if (record.attempt !== attempt) throw attemptEnded();
  return record;
}

/** Its agent waits for the plan of the next attempt, or to be told that it is not in it. */
export function attemptEnded(): TransportFault {
  return new TransportFault(
    "AttemptEnded",
    "this attempt of the round has ended; the next one is planned, or has begun",
  );
}

const TRANSPORT_CODES: Partial<Record<SecaggCode, TransportCode>> = {
  SignatureInvalid: "SignatureInvalid",
  NotExpected: "NotExpected",
  AnswerDiffers: "AnswerDiffers",
};

/** And tells its agent, which is to erase what it keeps of the session. */
export async function exclude(
  context: Context,
  { desk }: Pick<Workplace, "desk">,
  { uid, participant }: { uid: string; participant: string },
  why: { reason: string; message: string },
): Promise<void> {
  context.log.warn({ uid, participant, ...why }, "an answer of secure aggregation was refused");
  const record = await desk.update(uid, (now) => applyFault(now, participant, why, context.now()));
  if (isOut(participantOf(record, participant)))
    sendCancellation(context, record, { participants: [participant], ...why });
}

/** @throws TransportFault when the commitment is not signed, or the nonce is not the one committed to */
export async function takeDrawAnswer(
  context: Context,
  { desk }: Pick<Workplace, "desk">,
  { uid, participant }: { uid: string; participant: string },
  report: DrawReport,
): Promise<void> {
  const record = desk.get(uid)!;
  const number = report.body.work!.attempt;
  const member = record.draw?.members.find(({ name }) => name === participant);
  // Of an earlier draw, or after it: the next opening says what is wanted now.
  if (!member || record.draw!.number !== number) return;
  if (report.kind === "commit") {
    const { commitment, signature } = report.body;
    const which: Draw = { federation: federationId(context, record.federation), round: record.number!, number };
    if (!isCommitment(which, identityBytes(context, participant), commitment, signature))
      throw new TransportFault("SignatureInvalid", "the commitment is not signed by this participant for this draw");
    const answer = { number, commitment: base64(commitment), signature: base64(signature) };
    await desk.update(uid, (now) => applyCommitment(now, participant, answer));
    return;
  }
  const nonce = base64(report.body.nonce);
  if (base64(commitmentToNonce(report.body.nonce)) !== member.commitment)
    throw new TransportFault("AnswerDiffers", "the nonce is not the one that this participant committed to");
  await desk.update(uid, (now) => applyNonce(now, participant, { number, nonce }));
}

function messageOf(report: StepReport): ParticipantMessage {
  switch (report.kind) {
    case "advertise":
      return { $case: "advertise", value: report.body.advertisement! };
    case "share":
      return { $case: "share", value: { ack: report.body.ack, shares: report.body.shares } };
    case "consistency":
      return { $case: "consistency", value: { signature: report.body.signature } };
    case "unmask":
      return { $case: "unmask", value: { shares: report.body.shares } };
  }
}

function identityBytes(context: Context, participant: string): Uint8Array {
  const found = context.objects.participant(participant);
  return new Uint8Array(Buffer.from((found && identityOf(found)) ?? "", "base64"));
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64");
}
