/**
 * What the gRPC server asks of the operator (transport/coordinator.ts): who may connect, what agents report, which uploads are
 * expected, which adapters may be read.
 * Holds: a report or contribution is on disk before it is answered; a word about work that is no longer open is answered with its
 *   cancellation, so that no agent trains for nobody.
 * Does not: decide about rounds (operator/round/reports.ts says what a report changes).
 */
import { hasReleased, participantOf } from "../round/cohorts.ts";
import { isOut, isSettled } from "../round/participants.ts";
import { isTerminal, type RoundRecord } from "../round/record.ts";
import { applyReport, isOfEndedAttempt, isOpen, isProgressOnly, type Report } from "../round/reports.ts";
import type { AgentReport, Coordinator, Member, Session } from "../transport/coordinator.ts";
import { TransportFault } from "../transport/faults.ts";
import type { Manifest, Work } from "../transport/generated/rondo.v1.ts";
import { type Context, federationId, federationName } from "./context.ts";
import { checkPlan, findWork } from "./find-work.ts";
import { readableAdapter } from "./readable-adapter.ts";
import { sendPlan } from "./round/actions/messages.ts";
import {
  attemptEnded,
  type DrawReport,
  isDrawReport,
  isStepReport,
  type StepReport,
  takeAnswer,
  takeDrawAnswer,
} from "./round/take-answer.ts";
import type { Workplace } from "./round/workplace.ts";
import { identityOf } from "./selector.ts";
import { RoundUploads } from "./uploads.ts";

/** Each is signed, and a stream holds 64 unread messages: an agent with more gets the rest at its next connection. */
const MOST_CANCELLED_AT_ONCE = 32;

export class OperatorCoordinator implements Coordinator {
  readonly #context: Context;
  readonly #workplace: Workplace;
  readonly #uploads: RoundUploads;
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
    this.#uploads = new RoundUploads(context, workplace, wake.round);
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
    const record = await findWork(this.#context, this.#workplace, work, participant);
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
      checkPlan(record, report.body.planHash);
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

  admitUpload(participant: string, manifest: Manifest): Promise<void> {
    return this.#uploads.admit(participant, manifest);
  }

  uploaded(participant: string, manifest: Manifest, file: string): Promise<void> {
    return this.#uploads.uploaded(participant, manifest, file);
  }

  foundNoRoom(neededBytes: number | undefined): void {
    if (neededBytes === undefined) this.#context.storage.noteFull();
    else this.#context.storage.noteWanted(neededBytes);
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
    const record = await findWork(this.#context, this.#workplace, work, session.participant);
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
