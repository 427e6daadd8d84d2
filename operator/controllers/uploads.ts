/**
 * What agents upload: whether it is expected, whose it is, and that it counts (transport/coordinator.ts).
 * Holds: what counts is on disk before its receipt goes; it is asked again in the moment in which it is written, because step, attempt and
 *   round may have ended while it came.
 * Does not: keep the file (journal/spool.ts) or add it up (round/sum.ts, round/secure-sum.ts).
 */
import { merkleRoot } from "../journal/merkle.ts";
import { cohortOf } from "../round/cohorts.ts";
import { type Contribution, isTerminal, type RoundRecord } from "../round/record.ts";
import { applyContribution, applyUploadBegun, isOpen, uploadFault } from "../round/reports.ts";
import { TransportFault } from "../transport/faults.ts";
import type { Manifest, SignedInput } from "../transport/generated/rondo.v1.ts";
import type { Context } from "./context.ts";
import { checkPlan, findWork } from "./find-work.ts";
import { removeSpooled } from "./round/actions/clean-up.ts";
import { attemptEnded, checked, exclude, taken } from "./round/take-answer.ts";
import type { Workplace } from "./round/workplace.ts";

export class RoundUploads {
  readonly #context: Context;
  readonly #workplace: Workplace;
  readonly #wakeRound: (name: string) => void;

  constructor(context: Context, workplace: Workplace, wakeRound: (name: string) => void) {
    this.#context = context;
    this.#workplace = workplace;
    this.#wakeRound = wakeRound;
  }

  /** @throws TransportFault when it is not expected, or finds no room */
  async admit(participant: string, manifest: Manifest): Promise<void> {
    const record = await this.#admitted(participant, manifest);
    this.#context.storage.requireRoom();
    if (record.secure && isOpen(record)) await this.#signed(record, participant, manifest);
    const begun = (now: RoundRecord) => applyUploadBegun(now, participant, this.#context.now());
    await this.#workplace.desk.update(record.uid, begun);
    this.#wakeRound(record.name);
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
    const record = await findWork(this.#context, this.#workplace, manifest.work, participant);
    if (!record) throw new TransportFault("NotExpected", "there is no such round; it may have been deleted");
    if (!isTerminal(record) && manifest.work!.attempt !== record.attempt) throw attemptEnded();
    checkPlan(record, manifest.planHash);
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
