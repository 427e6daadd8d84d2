/** The cluster and the operator as an assignment sees them, in memory: what was asked of them, and what they answer. */
import { copyFile, readFile } from "node:fs/promises";
import type { ParticipantMessage } from "../../secagg/messages.ts";
import type { JobObservation } from "../../trainer/observe-job.ts";
import { generateIdentity } from "../../transport/identity.ts";
import type { TrainerReport } from "../assignment.ts";
import { signer } from "../identity.ts";
import type { EnsureJob, TrainerJobs } from "../jobs.ts";
import type { AdapterRequest, NamedDraw, NamedWork, OperatorLink, Upload } from "../link.ts";
import { makeMaskedVector } from "../masking.ts";
import type { Assignment } from "../record.ts";
import type { SecureParts } from "../secagg/session.ts";
import type { SessionLedger } from "../secagg/session-ledger.ts";
import type { SiteEvents } from "../site-events.ts";

export class MemoryJobs implements TrainerJobs {
  readonly jobs = new Map<string, { options: EnsureJob; seen: JobObservation }>();
  readonly notes: string[] = [];
  created = 0;
  /** What the cluster makes of a new Job. */
  fresh: JobObservation = { state: "Running", reason: "Running", message: "" };
  onCreated: (options: EnsureJob) => void = () => {};

  async ensure(options: EnsureJob): Promise<void> {
    if (this.jobs.has(options.name)) return;
    this.created++;
    this.jobs.set(options.name, { options, seen: this.fresh });
    this.onCreated(options);
  }

  async look(name: string): Promise<JobObservation> {
    return this.jobs.get(name)?.seen ?? { state: "Missing", reason: "JobMissing", message: "gone" };
  }

  async remove(name: string): Promise<void> {
    this.jobs.delete(name);
  }

  note(_name: string, reason: string, text: string): void {
    this.notes.push(`${reason}: ${text}`);
  }
}

export class MemoryOperator implements OperatorLink {
  readonly adapters = new Map<string, string>();
  readonly statuses: TrainerReport[] = [];
  readonly said: Array<{ kind: "accept" | "refuse" | "fail"; reason?: string; message?: string }> = [];
  /** Every complete upload, whole. */
  readonly uploads: Buffer[] = [];

  async accept(): Promise<void> {
    this.said.push({ kind: "accept" });
  }

  async refuse(_: NamedWork, refusal: { reason: string; message: string }): Promise<void> {
    this.said.push({ kind: "refuse", reason: refusal.reason, message: refusal.message });
  }

  async fail(_: Assignment, failure: { reason: string; message: string }): Promise<void> {
    this.said.push({ kind: "fail", reason: failure.reason, message: failure.message });
  }

  status(_: Assignment, report: TrainerReport): void {
    this.statuses.push(report);
  }

  async fetchAdapter({ digest, file }: AdapterRequest): Promise<void> {
    const source = this.adapters.get(digest);
    if (!source)
      throw Object.assign(new Error("the operator has no such adapter"), {
        name: "TransportFault",
        code: "DigestUnknown",
      });
    await copyFile(source, file);
  }

  async upload(_: Assignment, { file }: Upload): Promise<void> {
    this.uploads.push(await readFile(file));
  }

  /** Of secure aggregation, in the order in which it arrived; a repeat again. */
  readonly messages: ParticipantMessage[] = [];

  async say(_: Assignment, message: ParticipantMessage): Promise<void> {
    this.messages.push(message);
  }

  /** Of draws: commitment and signature, or the nonce. */
  readonly draws: Array<{ number: number; commitment?: Uint8Array; signature?: Uint8Array; nonce?: Uint8Array }> = [];

  async commit({ number }: NamedDraw, commitment: Uint8Array, signature: Uint8Array): Promise<void> {
    this.draws.push({ number, commitment, signature });
  }

  async reveal({ number }: NamedDraw, nonce: Uint8Array): Promise<void> {
    this.draws.push({ number, nonce });
  }
}

export class MemoryEvents implements SiteEvents {
  readonly events: Array<{ job: string | undefined; reason: string; sentence: string }> = [];

  warn(job: string | undefined, reason: string, sentence: string): void {
    this.events.push({ job, reason, sentence });
  }
}

/** The identity Secret's rounds, in memory: what outlives a ledger. */
export class MemoryMaskedRounds {
  readonly rounds = new Map<string, number>();

  async raise({ federation, round }: { federation: string; round: number }): Promise<void> {
    this.rounds.set(federation, Math.max(round, this.rounds.get(federation) ?? 0));
  }

  async unknownTo(sessions: Pick<SessionLedger, "allHighestMasked">): Promise<Map<string, number>> {
    const known = await sessions.allHighestMasked();
    return new Map([...this.rounds].filter(([federation, round]) => round > (known.get(federation) ?? 0)));
  }
}

/** A volume with room, unless a test says otherwise. */
export class MemoryStorage {
  problem: { reason: string; message: string } | undefined;
  noteFull(): void {}
}

/** What an agent gives to every secure session; masking is the real one. */
export function secureParts(change: Partial<SecureParts> = {}): SecureParts & { events: MemoryEvents } {
  return {
    maskedRounds: new MemoryMaskedRounds(),
    mask: makeMaskedVector,
    sign: signer(generateIdentity().privateKey),
    releasesPerParent: 3,
    ...change,
    events: (change.events as MemoryEvents | undefined) ?? new MemoryEvents(),
  };
}
