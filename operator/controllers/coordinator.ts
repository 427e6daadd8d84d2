/**
 * What the gRPC server asks of the operator (transport/coordinator.ts): who may connect, what agents report, which uploads are
 * expected, which adapters may be read.
 * Holds: a report or contribution is on disk before it is answered; a word about work that is no longer open is answered with its
 *   cancellation, so that no agent trains for nobody.
 * Does not: decide about rounds (operator/round/reports.ts says what a report changes).
 */
import { merkleRoot } from "../journal/merkle.ts";
import { isOut, isSettled } from "../round/participants.ts";
import { isTerminal, type RoundRecord } from "../round/record.ts";
import {
  applyContribution,
  applyReport,
  applyUploadBegun,
  isOpen,
  isProgressOnly,
  type Report,
  uploadFault,
} from "../round/reports.ts";
import type { AgentReport, Coordinator, Member, Session } from "../transport/coordinator.ts";
import { TransportFault } from "../transport/faults.ts";
import type { Manifest, Work } from "../transport/generated/rondo.v1.ts";
import { type Context, federationId, federationName } from "./context.ts";
import { readableAdapter } from "./readable-adapter.ts";
import { sendPlan } from "./round/actions/messages.ts";
import type { Workplace } from "./round/workplace.ts";
import { identityOf } from "./selector.ts";

/** Each is signed, and a stream holds 64 unread messages: an agent with more gets the rest at its next connection. */
const MOST_CANCELLED_AT_ONCE = 32;

export class OperatorCoordinator implements Coordinator {
  readonly #context: Context;
  readonly #workplace: Workplace;
  readonly #wakeRound: (name: string) => void;
  readonly #wakeParticipant: (name: string) => void;
  /** Who has fetched which round's parent: it counts once in the bytes. */
  readonly #fetched = new Set<string>();

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
    for (const work of session.attending.open.slice(0, MOST_CANCELLED_AT_ONCE)) this.#cancelIfOver(session, work);
    for (const record of this.#workplace.desk.open()) {
      const own = record.participants.find(({ name }) => name === session.participant);
      if (!own || isSettled(own) || !isOpen(record)) continue;
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
    const record = this.#find(work, participant);
    const session = this.#context.attendance.session(participant);
    if (!record || !work) {
      if (session && work) this.#cancelIfOver(session, work);
      return;
    }
    if (report.kind === "accept" || report.kind === "refuse") this.#checkPlan(record, report.body.planHash);
    const before = this.#workplace.desk.get(record.uid)!;
    const change = (now: RoundRecord) => applyReport(now, participant, plainReport(report), this.#context.now());
    const after = change(before);
    if (after !== before && isProgressOnly(before, after)) this.#workplace.desk.note(record.uid, change);
    else if (after !== before) await this.#workplace.desk.update(record.uid, change);
    if (after !== before) this.#wakeRound(record.name);
    if (session && (report.kind === "accept" || report.kind === "status")) this.#cancelIfOver(session, work);
  }

  async admitUpload(participant: string, manifest: Manifest): Promise<void> {
    const record = this.#admitted(participant, manifest);
    const begun = (now: RoundRecord) => applyUploadBegun(now, participant, this.#context.now());
    await this.#workplace.desk.update(record.uid, begun);
    this.#wakeRound(record.name);
  }

  async uploaded(participant: string, manifest: Manifest, file: string): Promise<void> {
    // The last byte may have come after the deadline.
    const record = this.#admitted(participant, manifest);
    const contribution = { participant, root: rootOf(manifest), byteLength: manifest.byteLength, file };
    const isNew = !record.contributions.some((known) => known.participant === participant);
    await this.#workplace.desk.update(record.uid, (now) => applyContribution(now, contribution, this.#context.now()));
    if (isNew) {
      this.#context.metrics.contribution("received");
      this.#context.metrics.bytes("up", manifest.byteLength);
    }
    // It was counted, the receipt was lost, and the round has ended since: the file came for the receipt only.
    if (isTerminal(record)) await this.#context.spool.remove(contribution.root);
    this.#wakeRound(record.name);
  }

  async adapter(participant: string, digest: Uint8Array): Promise<{ file: string; byteLength: number } | undefined> {
    const named = `sha256:${Buffer.from(digest).toString("hex")}`;
    const found = await readableAdapter(this.#context, this.#workplace, participant, named);
    if (found?.round) this.#countFetch(found.round, participant, found.byteLength);
    return found && { file: found.file, byteLength: found.byteLength };
  }

  #countFetch(record: RoundRecord, participant: string, byteLength: number): void {
    const key = `${record.uid} ${participant}`;
    if (this.#fetched.has(key)) return;
    this.#fetched.add(key);
    this.#context.metrics.bytes("down", byteLength);
    this.#workplace.desk.note(record.uid, (now) => ({
      ...now,
      bytes: { ...now.bytes, down: now.bytes.down + byteLength },
    }));
  }

  #admitted(participant: string, manifest: Manifest): RoundRecord {
    const record = this.#find(manifest.work, participant);
    if (!record) throw new TransportFault("NotExpected", "there is no such round; it may have been deleted");
    this.#checkPlan(record, manifest.planHash);
    const { byteLength } = manifest;
    const fault = uploadFault(record, { participant, root: rootOf(manifest), byteLength }, this.#context.now());
    if (!fault) return record;
    this.#context.metrics.contribution("refused");
    throw new TransportFault(UPLOAD_CODES[fault.code], fault.message);
  }

  #checkPlan(record: RoundRecord, planHash: Uint8Array): void {
    if (Buffer.from(planHash).toString("hex") !== record.plan?.hash)
      throw new TransportFault("NotExpected", "this speaks of another plan than the one that this round has");
  }

  /** The record of this work, if it is this participant's. */
  #find(work: Work | undefined, participant: string): RoundRecord | undefined {
    if (!work || work.participant !== participant || work.attempt !== 1 || work.purpose !== "delta") return undefined;
    const federation = federationName(this.#context, work.federation);
    const record = federation === undefined ? undefined : this.#workplace.desk.numbered(federation, work.round);
    return record?.participants.some(({ name }) => name === participant) ? record : undefined;
  }

  #cancelIfOver(session: Session, work: Work): void {
    // Another operator's or namespace's work is none of ours to end.
    if (!work.federation.startsWith(federationId(this.#context, ""))) return;
    const record = this.#find(work, session.participant);
    const own = record?.participants.find(({ name }) => name === session.participant);
    if (own?.state === "Contributed") return;
    if (record && own && !isTerminal(record) && !isOut(own)) return;
    const reason = (own && isOut(own) ? own.reason : record?.outcome?.reason) || "RoundEnded";
    const message =
      (own && isOut(own) ? own.message : record?.outcome?.message) || "the round has ended or was deleted";
    session.sendCancellation({ ...work, step: "cancel" }, reason, message.slice(0, 256));
  }
}

const UPLOAD_CODES = { NotExpected: "NotExpected", Conflict: "ManifestDiffers", TooLarge: "ManifestInvalid" } as const;

function rootOf(manifest: Manifest): string {
  return Buffer.from(merkleRoot(manifest.leaves)).toString("hex");
}

function plainReport(report: AgentReport): Report {
  switch (report.kind) {
    case "accept":
      return { kind: "accept" };
    case "refuse":
    case "fail":
      return { kind: report.kind, reason: report.body.reason, message: report.body.message };
    case "status": {
      const { state, job, progressStep, progressSteps, reason, message } = report.body;
      return { kind: "status", state, job, step: progressStep, steps: progressSteps, reason, message };
    }
    case "advertise":
    case "share":
    case "consistency":
    case "unmask":
    case "commit":
    case "reveal":
      throw new TransportFault("NotExpected", "no round of this operator waits for secure aggregation");
  }
}
