/**
 * What the gRPC server asks of the operator (transport/coordinator.ts): who may connect, what agents report, which uploads are
 * expected, which adapters may be read.
 * Holds: a report or contribution is on disk before it is answered; a word about work that is no longer open is answered with its
 *   cancellation, so that no agent trains for nobody.
 * Does not: decide about rounds (operator/round/reports.ts says what a report changes).
 */
import { merkleRoot } from "../journal/merkle.ts";
import { cohortOf, hasReleased, participantOf } from "../round/cohorts.ts";
import { isOut, isSettled } from "../round/participants.ts";
import { type Contribution, isTerminal, type RoundRecord } from "../round/record.ts";
import {
  applyContribution,
  applyReport,
  applyUploadBegun,
  isOfEndedAttempt,
  isOpen,
  isProgressOnly,
  type Report,
  uploadFault,
} from "../round/reports.ts";
import type { AgentReport, Coordinator, Member, Session } from "../transport/coordinator.ts";
import { TransportFault } from "../transport/faults.ts";
import type { Manifest, SignedInput, Work } from "../transport/generated/rondo.v1.ts";
import { type Context, federationId, federationName } from "./context.ts";
import { readableAdapter } from "./readable-adapter.ts";
import { removeSpooled } from "./round/actions/clean-up.ts";
import { sendPlan } from "./round/actions/messages.ts";
import {
  attemptEnded,
  checked,
  type DrawReport,
  exclude,
  isDrawReport,
  isStepReport,
  type StepReport,
  takeAnswer,
  takeDrawAnswer,
  taken,
} from "./round/take-answer.ts";
import type { Workplace } from "./round/workplace.ts";
import { identityOf } from "./selector.ts";

/** Each is signed, and a stream holds 64 unread messages: an agent with more gets the rest at its next connection. */
const MOST_CANCELLED_AT_ONCE = 32;

export class OperatorCoordinator implements Coordinator {
  readonly #context: Context;
  readonly #workplace: Workplace;
  readonly #wakeRound: (name: string) => void;
  readonly #wakeParticipant: (name: string) => void;
  /** By uid of an open round: who has fetched its parent, which counts once in the bytes. */
  readonly #fetched = new Map<string, Set<string>>();

  constructor(
    context: Context,
    workplace: Workplace,
    wake: { round: (name: string) => void; participant: (name: string) => void },
  ) {
    this.#context = context;
    this.#workplace = workplace;
    this.#wakeRound = wake.round;
    this.#wakeParticipant = wake.participant;
  }

  member(participant: string): Member | undefined {
    const found = this.#context.objects.participant(participant);
    if (!found || found.metadata.deletionTimestamp) return undefined;
    const identity = identityOf(found);
    return {
      participant,
      ...(identity && { identity: Buffer.from(identity, "base64") }),
      enrolment: found.spec.enrolment,
      suspended: found.spec.suspended,
    };
  }

  attended(session: Session): void {
    this.#context.attendance.arrived(session);
    this.#wakeParticipant(session.participant);
    void this.#cancelWhatIsOver(session);
    for (const record of this.#workplace.desk.open()) {
      const own = record.participants.find(({ name }) => name === session.participant);
      // What its cohort's step or its draw asks goes out with the round's next look.
      if (record.draw || (own && !hasReleased(record, own.name))) this.#wakeRound(record.name);
      // A plan that is still being made goes out with the round's next look.
      if (!own || isSettled(own) || !isOpen(record) || record.phase === "Planning") continue;
      void sendPlan(this.#context, this.#workplace, record, [session.participant]).catch((error: unknown) =>
        this.#context.log.error({ round: record.name, err: error }, "plan not sent"),
      );
      this.#wakeRound(record.name);
    }
  }

  left(session: Session): void {
    if (this.#context.attendance.left(session)) this.#wakeParticipant(session.participant);
  }

  async received(participant: string, report: AgentReport): Promise<void> {
    const { work } = report.body;
    if (isDrawReport(report)) return this.#drawn(participant, report);
    const record = await this.#find(work, participant);
    const session = this.#context.attendance.session(participant);
    if (!record || !work) {
      if (session && work) await this.#cancelIfOver(session, work);
      return;
    }
    if (isOfEndedAttempt(record, work.attempt, report.kind)) {
      // Whoever is not in the next attempt is not to wait for it.
      if (session) await this.#cancelIfOver(session, work);
      if (isTerminal(record)) return;
      throw attemptEnded();
    }
    if (report.kind === "accept" || report.kind === "refuse" || report.kind === "advertise")
      this.#checkPlan(record, report.body.planHash);
    if (isStepReport(report)) return this.#answered(record, participant, report);
    const before = this.#workplace.desk.get(record.uid) ?? record;
    const said = plainReport(report);
    // Whose shares could not be opened in an attempt that has ended says nothing of the shares of the next.
    const heard = said.kind === "fail" && work.attempt < record.attempt ? { ...said, accused: [] } : said;
    const change = (now: RoundRecord) => applyReport(now, participant, heard, this.#context.now());
    const after = change(before);
    if (after !== before && isProgressOnly(before, after)) this.#workplace.desk.note(record.uid, change);
    else if (after !== before) await this.#workplace.desk.update(record.uid, change);
    if (after !== before) this.#wakeRound(record.name);
    if (session && (report.kind === "accept" || report.kind === "status")) await this.#cancelIfOver(session, work);
  }

  async #answered(record: RoundRecord, participant: string, report: StepReport): Promise<void> {
    if (!record.secure) throw new TransportFault("NotExpected", "this round is without secure aggregation");
    if (!isOpen(record) || isOut(participantOf(record, participant))) {
      // Too late: its agent is to erase what it keeps.
      const session = this.#context.attendance.session(participant);
      if (session) await this.#cancelIfOver(session, report.body.work!);
      return;
    }
    try {
      const sender = { uid: record.uid, attempt: report.body.work!.attempt, participant };
      await takeAnswer(this.#context, this.#workplace, sender, report);
    } finally {
      this.#wakeRound(record.name);
    }
  }

  async #drawn(participant: string, report: DrawReport): Promise<void> {
    const { federation: id, round } = report.body.work!;
    const federation = federationName(this.#context, id);
    const record = federation === undefined ? undefined : await this.#workplace.desk.numbered(federation, round);
    // A draw that is over asks for nothing, and whoever answered it too late keeps nothing secret.
    if (!record?.draw || report.body.work!.participant !== participant) return;
    await takeDrawAnswer(this.#context, this.#workplace, { uid: record.uid, participant }, report);
    this.#wakeRound(record.name);
  }

  async admitUpload(participant: string, manifest: Manifest): Promise<void> {
    const record = await this.#admitted(participant, manifest);
    this.#context.storage.requireRoom();
    if (record.secure && isOpen(record)) await this.#signed(record, participant, manifest);
    const begun = (now: RoundRecord) => applyUploadBegun(now, participant, this.#context.now());
    await this.#workplace.desk.update(record.uid, begun);
    this.#wakeRound(record.name);
  }

  foundNoRoom(neededBytes: number | undefined): void {
    if (neededBytes === undefined) this.#context.storage.noteFull();
    else this.#context.storage.noteWanted(neededBytes);
  }

  async uploaded(participant: string, manifest: Manifest, file: string): Promise<void> {
    // The last byte may have come after the deadline, or after the attempt.
    const record = await this.#admitted(participant, manifest).catch(async (error: unknown) => {
      if (error instanceof TransportFault && error.code === "AttemptEnded")
        await removeSpooled(this.#context, this.#workplace, [rootOf(manifest)]);
      throw error;
    });
    const contribution = { participant, root: rootOf(manifest), byteLength: manifest.byteLength, file };
    const isNew = !record.contributions.some((known) => known.participant === participant);
    await this.#contribute(record, manifest, contribution);
    if (isNew) {
      this.#context.metrics.contribution("received");
      this.#context.metrics.bytes("up", manifest.byteLength);
    }
    // It was counted, the receipt was lost, and the round has ended since: the file came for the receipt only.
    if (isTerminal(record)) await removeSpooled(this.#context, this.#workplace, [contribution.root]);
    this.#wakeRound(record.name);
  }

  async adapter(participant: string, digest: Uint8Array): Promise<{ file: string; byteLength: number } | undefined> {
    const named = `sha256:${Buffer.from(digest).toString("hex")}`;
    const found = await readableAdapter(this.#context, this.#workplace, participant, named);
    if (found?.round) this.#countFetch(found.round, participant, found.byteLength);
    return found && { file: found.file, byteLength: found.byteLength };
  }

  #countFetch(record: RoundRecord, participant: string, byteLength: number): void {
    const fetched = this.#fetched.get(record.uid) ?? new Set();
    if (fetched.has(participant)) return;
    if (!this.#fetched.has(record.uid)) this.#forgetFetches();
    this.#fetched.set(record.uid, fetched.add(participant));
    this.#context.metrics.bytes("down", byteLength);
    this.#workplace.desk.note(record.uid, (now) => ({
      ...now,
      bytes: { ...now.bytes, down: now.bytes.down + byteLength },
    }));
  }

  #forgetFetches(): void {
    const open = new Set(this.#workplace.desk.open().map(({ uid }) => uid));
    for (const uid of this.#fetched.keys()) if (!open.has(uid)) this.#fetched.delete(uid);
  }

  /** In a secure round the sender belongs to U3 from the commit on that holds what it signed. */
  async #contribute(record: RoundRecord, manifest: Manifest, contribution: Contribution): Promise<void> {
    const { attempt } = manifest.work!;
    const change = (now: RoundRecord) => this.#counted(now, attempt, contribution);
    const sender = { uid: record.uid, attempt, participant: contribution.participant };
    if (record.secure && isOpen(record)) {
      const answer = { $case: "mask", value: signedInput(record, contribution.participant, manifest) } as const;
      await taken(this.#context, this.#workplace, sender, answer, change);
    } else await this.#workplace.desk.update(record.uid, change);
  }

  /** Asked again in the moment in which it is written: the step may have ended while the cohorts' state was read. */
  #counted(now: RoundRecord, attempt: number, contribution: Contribution): RoundRecord {
    if (now.attempt !== attempt) throw attemptEnded();
    const fault = uploadFault(now, contribution, this.#context.now());
    if (fault) throw new TransportFault(UPLOAD_CODES[fault.code], fault.message);
    return applyContribution(now, contribution, this.#context.now());
  }

  /** Before the first chunk: whose vector this is, and that it is meant for this session. */
  async #signed(record: RoundRecord, participant: string, manifest: Manifest): Promise<void> {
    const value = signedInput(record, participant, manifest);
    const sender = { uid: record.uid, attempt: manifest.work!.attempt, participant };
    await checked(this.#context, this.#workplace, sender, { $case: "mask", value });
  }

  async #admitted(participant: string, manifest: Manifest): Promise<RoundRecord> {
    const record = await this.#find(manifest.work, participant);
    if (!record) throw new TransportFault("NotExpected", "there is no such round; it may have been deleted");
    if (!isTerminal(record) && manifest.work!.attempt !== record.attempt) throw attemptEnded();
    this.#checkPlan(record, manifest.planHash);
    const { byteLength } = manifest;
    const fault = uploadFault(record, { participant, root: rootOf(manifest), byteLength }, this.#context.now());
    if (!fault) return record;
    this.#context.metrics.contribution("refused");
    if (fault.code === "WrongLength") {
      const why = { reason: fault.code, message: fault.message };
      await exclude(this.#context, this.#workplace, { uid: record.uid, participant }, why);
      this.#wakeRound(record.name);
    }
    throw new TransportFault(UPLOAD_CODES[fault.code], fault.message);
  }

  #checkPlan(record: RoundRecord, planHash: Uint8Array): void {
    if (Buffer.from(planHash).toString("hex") !== record.plan?.hash)
      throw new TransportFault("NotExpected", "this speaks of another plan than the one that this round has");
  }

  /** The record of this work, if it is this participant's; it may have come to a later attempt. */
  async #find(work: Work | undefined, participant: string): Promise<RoundRecord | undefined> {
    if (!work || work.participant !== participant || work.purpose !== "delta") return undefined;
    const federation = federationName(this.#context, work.federation);
    const record = federation === undefined ? undefined : await this.#workplace.desk.numbered(federation, work.round);
    if (record && work.attempt > record.attempt) return undefined;
    return record?.participants.some(({ name }) => name === participant) ? record : undefined;
  }

  async #cancelWhatIsOver(session: Session): Promise<void> {
    try {
      for (const work of session.attending.open.slice(0, MOST_CANCELLED_AT_ONCE))
        await this.#cancelIfOver(session, work);
    } catch (error) {
      this.#context.log.error({ participant: session.participant, err: error }, "cancellations not sent");
    }
  }

  async #cancelIfOver(session: Session, work: Work): Promise<void> {
    // Another operator's or namespace's work is none of ours to end.
    if (!work.federation.startsWith(federationId(this.#context, ""))) return;
    const record = await this.#find(work, session.participant);
    const own = record?.participants.find(({ name }) => name === session.participant);
    if (record && own && hasReleased(record, own.name)) return;
    if (record && own && !isTerminal(record) && !isOut(own)) return;
    const reason = (own && isOut(own) ? own.reason : record?.outcome?.reason) || "RoundEnded";
    const message =
      (own && isOut(own) ? own.message : record?.outcome?.message) || "the round has ended or was deleted";
    // Of the attempt that runs: it ends what the site does for any earlier one as well.
    const attempt = Math.max(work.attempt, record?.attempt ?? 1);
    session.sendCancellation({ ...work, attempt, step: "cancel" }, reason, message.slice(0, 256));
  }
}

const UPLOAD_CODES = {
  NotExpected: "NotExpected",
  Conflict: "ManifestDiffers",
  TooLarge: "ManifestInvalid",
  WrongLength: "ManifestInvalid",
} as const;

function signedInput(record: RoundRecord, participant: string, manifest: Manifest): SignedInput {
  const index = cohortOf(record, participant)!.cohort.members.indexOf(participant) + 1;
  return { index, root: merkleRoot(manifest.leaves), signature: manifest.inputSignature };
}

function rootOf(manifest: Manifest): string {
  return Buffer.from(merkleRoot(manifest.leaves)).toString("hex");
}

function plainReport(report: Exclude<AgentReport, StepReport | DrawReport>): Report {
  switch (report.kind) {
    case "accept":
      return { kind: "accept" };
    case "refuse":
      return { kind: report.kind, reason: report.body.reason, message: report.body.message };
    case "fail": {
      const { reason, message, accused } = report.body;
      return { kind: report.kind, reason, message, accused };
    }
    case "status": {
      const { state, job, progressStep, progressSteps, reason, message } = report.body;
      return { kind: "status", state, job, step: progressStep, steps: progressSteps, reason, message };
    }
  }
}
