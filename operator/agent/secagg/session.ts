/**
 * Carries one session of secure aggregation at this site: the participant's state machine (secagg/participant) between ledger, files and link.
 * Holds: a row is on disk before the message that it permits leaves, and what a row does not need any more is erased in the same commit;
 * the identity's memory of the highest round MASKED is raised before the first masked byte leaves; after an end nothing is said any more.
 * Does not: decide what is next (../assignment.ts) or when to give up (../work.ts).
 */
import { randomBytes } from "node:crypto";
import type { Logger } from "pino";
import type { Write } from "../../journal/journal.ts";
import type { Plan } from "../../round/plan.ts";
import type { CoordinatorMessage } from "../../secagg/messages.ts";
import { advertise } from "../../secagg/participant/advertise.ts";
import type { ParticipantDeps } from "../../secagg/participant/deps.ts";
import { masked, type Opened } from "../../secagg/participant/masked-input.ts";
import { type Outcome, receive } from "../../secagg/participant/session.ts";
import type { ParticipantState, Shared } from "../../secagg/participant/state.ts";
import { restoreState, storedState } from "../../secagg/participant/stored.ts";
import { sessionTerms } from "../../secagg/terms.ts";
import { vectorLayout } from "../../secagg/vector.ts";
import type { SessionFacts } from "../assignment.ts";
import type { Difference } from "../delta.ts";
import { OperatorFault, type OperatorLink } from "../link.ts";
import type { MaskedVector, MaskingOptions } from "../masking.ts";
import type { AgentMetrics } from "../metrics.ts";
import type { Assignment } from "../record.ts";
import type { SiteEvents } from "../site-events.ts";
import type { MaskedRounds } from "./masked-rounds.ts";
import { placeOf } from "./secure-plan.ts";
import { type KeptSession, ParentReused, type SessionLedger } from "./session-ledger.ts";
import type { SessionEnd, SessionProblem, SessionRow } from "./session-record.ts";
import { abortedRow, messageOf, rowOf } from "./session-rows.ts";
import { wipe } from "./wipe.ts";

export interface SessionDeps {
  sessions: SessionLedger;
  link: Pick<OperatorLink, "say" | "upload">;
  maskedRounds: Pick<MaskedRounds, "raise" | "unknownTo">;
  mask(options: MaskingOptions): Promise<Pick<MaskedVector, "root" | "byteLength" | "leaves">>;
  /** Ed25519 by this site's identity. */
  sign(bytes: Uint8Array): Uint8Array;
  releasesPerParent: number;
  events: SiteEvents;
  metrics: Pick<AgentMetrics, "sessionEnded" | "masked">;
  log: Logger;
  now(): number;
}

/** What the agent as a whole gives to every session. */
export type SecureParts = Pick<SessionDeps, "maskedRounds" | "mask" | "sign" | "releasesPerParent" | "events">;

/** Of the work folder. */
export interface SessionFiles {
  masked: string;
  /** The delta, looked at (again) where this process has not looked at it. */
  delta(): Promise<Difference>;
}

const NOT_UNDERSTOOD: SessionProblem = {
  reason: "AgentProblem",
  message: "a step of secure aggregation could not be taken; the agent's log at the site says why",
  accused: [],
};

export class SecureSession {
  readonly #assignment: Assignment;
  readonly #plan: Plan;
  readonly #deps: SessionDeps;
  readonly #participant: ParticipantDeps;
  #row: SessionRow | undefined;
  /** undefined: not begun, or ABORTED. */
  #state: ParticipantState | undefined;
  #message: SessionFacts["message"] = "unsent";
  #refusal: SessionFacts["refusal"];
  #isUploaded = false;
  /** Of the vector that this process has made; one of an earlier process is hashed again. */
  #leaves: Uint8Array[] | undefined;
  /** Withdraws what this state has said when the session leaves it for an end. */
  #voice = new AbortController();

  private constructor(assignment: Assignment, plan: Plan, deps: SessionDeps) {
    this.#assignment = assignment;
    this.#plan = plan;
    this.#deps = deps;
    // The roster's keys are this site's pins: the plan was accepted because they are the same (trust.ts), and stays what it was when pins change.
    const keys = new Map(plan.roster.map(({ participant, identity }) => [participant, identity]));
    const { cohort, own } = placeOf(plan, assignment.participant);
    const planHash = Buffer.from(assignment.planHash, "hex");
    this.#participant = {
      terms: sessionTerms(plan, planHash, cohort, (name) => Buffer.from(keys.get(name) ?? "", "base64")),
      own,
      sign: deps.sign,
      random: (length) => randomBytes(length),
    };
  }

  /** As the ledger has it. */
  static async open(assignment: Assignment, plan: Plan, deps: SessionDeps): Promise<SecureSession> {
    const session = new SecureSession(assignment, plan, deps);
    const kept = await deps.sessions.load(assignment);
    session.#row = kept?.row;
    if (kept && kept.row.state !== "ABORTED") await session.#restore(kept);
    return session;
  }

  /** What cannot be read again (a damaged ledger, another version's row) is given up: else its secrets would lie there for ever. */
  async #restore({ row, secrets }: KeptSession): Promise<void> {
    try {
      this.#state = restoreState({ open: row.open, secrets });
    } catch {
      // Without the error, whose words may quote a secret.
      this.#deps.log.error({ session: row.state }, "the session's row in the ledger cannot be read");
      if (row.state !== "RELEASED") return this.abort(NOT_UNDERSTOOD);
      // Nothing can be taken back, and nothing is left to say.
      this.#message = "refused";
    }
  }

  get facts(): Omit<SessionFacts, "isAsked"> {
    return {
      ...(this.#row ? { state: this.#row.state } : {}),
      ...(this.#row?.problem ? { problem: this.#row.problem } : {}),
      message: this.#message,
      ...(this.#refusal ? { refusal: this.#refusal } : {}),
      isUploaded: this.#isUploaded,
    };
  }

  get end(): SessionEnd | undefined {
    return this.#row;
  }

  /** The first row; its message is sent next. */
  async advertise(): Promise<void> {
    await this.#enter(advertise(this.#participant).next);
  }

  /**
   * What the coordinator asks. When this resolves, the row that follows from it is on disk; its message is sent next.
   * @param signal  ends masking
   */
  async answer(message: CoordinatorMessage, files: SessionFiles, signal: AbortSignal): Promise<Outcome["kind"]> {
    if (!this.#state) return "nothing";
    const outcome = this.#receive(this.#state, message);
    if (outcome) await this.#perform(outcome, this.#state, files, signal);
    else await (this.#state.kind === "Released" ? this.#refuse(NOT_UNDERSTOOD) : this.abort(NOT_UNDERSTOOD));
    return outcome?.kind ?? "abort";
  }

  async #perform(outcome: Outcome, state: ParticipantState, files: SessionFiles, signal: AbortSignal): Promise<void> {
    switch (outcome.kind) {
      case "send":
        return this.#enter(outcome.next);
      case "mask":
        return this.#mask(state as Shared, outcome.opened, files, signal);
      case "repeat":
        // Still on its way: the outbox repeats it by itself.
        if (this.#message !== "sent") this.#message = "unsent";
        return;
      case "upload":
        this.#isUploaded = false;
        return;
      case "abort": {
        const { code, message: sentence, accused } = outcome.next;
        return this.abort({ reason: code, message: sentence, accused });
      }
      case "refuse":
        return this.#refuse({ reason: outcome.code, message: outcome.message, accused: [] });
      case "nothing":
        return;
    }
  }

  /** The state's message, again after a restart. @param settled  called when it was taken or refused; until then the facts say `sent` */
  send(settled: () => void): void {
    const message = messageOf(this.#state);
    if (!message) return;
    const of = this.#state;
    this.#message = "sent";
    this.#deps.link.say(this.#assignment, message, this.#voice.signal).then(
      () => this.#settle(of, "taken", settled),
      (error: unknown) => {
        // Anything else says that the agent stops or the session has ended: this process says it no more.
        if (!(error instanceof OperatorFault)) return;
        this.#refusal = { reason: error.reason, message: error.message };
        this.#settle(of, "refused", settled);
      },
    );
  }

  /** @throws OperatorFault when the operator will never take the vector */
  async upload(files: SessionFiles, signal: AbortSignal): Promise<void> {
    if (this.#state?.kind !== "Masked") return;
    const { root, signature } = this.#state.input;
    await this.#deps.maskedRounds.raise(this.#assignment);
    const input = { root, signature, ...(this.#leaves && { leaves: this.#leaves }) };
    await this.#deps.link.upload(this.#assignment, { file: files.masked, signal, input });
    this.#isUploaded = true;
  }

  /** A failed check, or a rule of the site that a request would break: ledger, then the site's people. */
  async abort(problem: SessionProblem): Promise<void> {
    const row = abortedRow(problem, this.#deps.now());
    await this.#deps.sessions.save(this.#assignment, { row });
    this.#aborted(row);
    this.#deps.metrics.sessionEnded("Aborted");
    this.#warn(problem);
  }

  /** For the commit that ends the assignment: nothing for a session that has not begun, is RELEASED or has ended. */
  endWrites(problem: SessionProblem): Write[] {
    if (!this.#state || this.#state.kind === "Released") return [];
    return this.#deps.sessions.writes(this.#assignment, { row: abortedRow(problem, this.#deps.now()) });
  }

  /** The commit of endWrites() is on disk. */
  ended(problem: SessionProblem): void {
    if (!this.#state || this.#state.kind === "Released") return;
    this.#aborted(abortedRow(problem, this.#deps.now()));
    this.#deps.metrics.sessionEnded("Cancelled");
  }

  /** undefined: not understood. Nothing that comes off the wire may make this agent try the same thing for ever. */
  #receive(state: ParticipantState, message: CoordinatorMessage): Outcome | undefined {
    try {
      return receive(this.#participant, state, message);
    } catch (error) {
      this.#deps.log.error({ err: error, asked: message.$case }, "step of secure aggregation not understood");
      return undefined;
    }
  }

  async #mask(state: Shared, opened: Opened, files: SessionFiles, signal: AbortSignal): Promise<void> {
    const deps = this.#deps;
    const plan = this.#plan;
    const beganMs = deps.now();
    try {
      const { file, minus, weight, factor } = await files.delta();
      const { tokens = 0, trainLoss } = this.#assignment.result ?? {};
      const vector = await deps.mask({
        layout: vectorLayout(plan),
        deltaFile: file,
        ...(minus !== undefined && { minusFile: minus }),
        weight,
        factor,
        // Without a loss its tokens would lower the mean of the others.
        metrics:
          trainLoss == null ? { tokens: 0, lossTokens: 0 } : { tokens, lossTokens: Math.max(0, trainLoss) * tokens },
        keys: opened.keys,
        outFile: files.masked,
        signal,
      });
      const next = masked(this.#participant, state, opened, vector);
      const of = { ...this.#assignment, parent: plan.parent.digest, limit: deps.releasesPerParent };
      const row = rowOf(next, deps.now());
      await deps.sessions.saveMasked(of, { row, secrets: storedState(next).secrets });
      this.#moved(next, row);
      this.#leaves = vector.leaves;
      deps.metrics.masked((deps.now() - beganMs) / 1000);
    } catch (error) {
      if (!(error instanceof ParentReused)) throw error;
      await this.abort({ reason: error.name, message: error.message, accused: [] });
    } finally {
      for (const { key } of opened.keys) key.fill(0);
    }
  }

  async #enter(next: ParticipantState): Promise<void> {
    const { sessions } = this.#deps;
    const row = rowOf(next, this.#deps.now());
    const kept = { row, secrets: storedState(next).secrets };
    await (next.kind === "Released"
      ? sessions.saveReleased(this.#assignment, kept)
      : sessions.save(this.#assignment, kept));
    this.#moved(next, row);
    if (next.kind === "Released") this.#deps.metrics.sessionEnded("Released");
  }

  #moved(next: ParticipantState, row: SessionRow): void {
    wipe(this.#state, next);
    this.#state = next;
    this.#row = row;
    this.#message = "unsent";
    this.#isUploaded = false;
    this.#deps.log.info({ session: row.state }, "secure aggregation moved on");
  }

  /** Too late to take anything back: a person has to know. */
  async #refuse(problem: SessionProblem): Promise<void> {
    const row = { ...this.#row!, refused: problem };
    await this.#deps.sessions.save(this.#assignment, { row });
    this.#row = row;
    this.#warn(problem);
  }

  #aborted(row: SessionRow): void {
    this.#voice.abort();
    wipe(this.#state, undefined);
    this.#state = undefined;
    this.#row = row;
    this.#deps.log.warn({ session: row.state, ...row.problem }, "secure aggregation ended");
  }

  #settle(of: ParticipantState | undefined, message: SessionFacts["message"], settled: () => void): void {
    if (this.#state !== of) return; // an answer to what was said before
    this.#message = message;
    settled();
  }

  #warn({ reason, message, accused }: SessionProblem): void {
    const who = accused.length > 0 ? ` (${accused.join(", ")})` : "";
    const { job, roundName } = this.#assignment;
    this.#deps.events.warn(
      job,
      reason,
      `Secure aggregation of ${roundName} was stopped at this site: ${message}${who}`,
    );
  }
}
