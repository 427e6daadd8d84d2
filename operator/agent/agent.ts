/**
 * The participant's side of every round: plans come in, are judged, answered and worked on; cancellations end them.
 * Holds: an answer is in the ledger before it is given; the same plan again gets the same answer; plans are judged one after the other.
 * Does not: start processes or servers (run.ts).
 */
import type { Logger } from "pino";
import type { Plan } from "../round/plan.ts";
import { trainerJobName } from "../trainer/job.ts";
import type {
  Cancellation,
  DrawStep,
  ProtocolStep,
  Signed,
  Work as WireWork,
} from "../transport/generated/rondo.v1.ts";
import type { Invitation } from "../transport/invitation.ts";
import type { SitePolicy } from "./config.ts";
import type { Attempt } from "./ledger.ts";
import { ATTEMPT_ENDED, NotWanted } from "./link.ts";
import { newAssignment, takenOver } from "./new-assignment.ts";
import { workOf } from "./operator-link.ts";
import { type Arrived, type Judged, PlanDesk } from "./plan-desk.ts";
import type { Refusal, Seen, Verdict } from "./policy.ts";
import { type Assignment, assignmentKey, hasEnded } from "./record.ts";
import { askedAfterEnd } from "./secagg/after-end.ts";
import { Draws } from "./secagg/draws.ts";
import { giveUpIfOld } from "./secagg/old-ledger.ts";
import { Work, type WorkDeps } from "./work.ts";

/** Each may have a MiB. What is dropped the operator asks again at the next connection; an honest one never has so much to ask. */
const MOST_WAITING = 64;

export interface AgentDeps extends WorkDeps {
  invitation: Pick<Invitation, "participant" | "planKey">;
  /** Ed25519 public key, base64. */
  identity: string;
  policy: SitePolicy;
}

export class Agent {
  readonly #deps: AgentDeps;
  readonly #log: Logger;
  readonly #works = new Map<string, Work>();
  readonly #runs = new Map<Work, Promise<void>>();
  readonly #desk: PlanDesk;
  readonly #draws: Draws;
  #judging: Promise<void> = Promise.resolve();
  #waiting = 0;
  #isStopped = false;

  constructor(deps: AgentDeps) {
    this.#deps = deps;
    this.#log = deps.log;
    const { ledger, link, policy, log, secure, invitation, identity } = deps;
    const { participant } = invitation;
    const { events } = secure;
    this.#desk = new PlanDesk({ ledger, link, invitation, identity, policy, events, log, now: () => this.#now() });
    this.#draws = new Draws({ ledger, link, policy, log, participant, sign: secure.sign, events });
  }

  /** Takes up again what the ledger says is not over. */
  async resume(): Promise<void> {
    const { ledger, secure, log } = this.#deps;
    await giveUpIfOld(ledger, { secure, log, nowMs: this.#now() });
    for (const assignment of await this.#deps.ledger.assignments()) {
      if (hasEnded(assignment) && assignment.told && assignment.cleaned) continue;
      const plan = await this.#deps.ledger.plan(assignment);
      if (!plan) throw new Error(`the ledger has no plan for ${assignmentKey(assignment)}`);
      this.#log.info({ round: assignment.roundName, state: assignment.state.kind }, "assignment resumed");
      this.#start(new Work(assignment, plan, this.#deps));
    }
  }

  /** What the operator is told at each connection, so that it can cancel what ended meanwhile. */
  openWork(): WireWork[] {
    return this.open().map((assignment) => workOf(assignment, "attend"));
  }

  open(): Assignment[] {
    return [...this.#works.values()].map(({ assignment }) => assignment).filter((each) => !hasEnded(each));
  }

  /** For the site's people. */
  status(): Array<{ round: string; state: string; job: string; session: string | null }> {
    return [...this.#works.values()]
      .filter(({ assignment }) => !hasEnded(assignment))
      .map(({ assignment: { roundName, state, job }, session }) => ({
        round: roundName,
        state: state.kind,
        job,
        session: session?.state ?? null,
      }));
  }

  /** Jobs that sweep() must leave alone. */
  get jobNames(): string[] {
    return [...this.#works.values()].map(({ assignment }) => assignment.job);
  }

  /** A verified plan. @param clockSkewMs  this agent's clock minus the operator's */
  onPlan(signed: Signed, clockSkewMs: number): void {
    if (this.#isStopped) return;
    const again = "plan not answered; the operator sends it again at the next connection";
    this.#inTurn(again, () => this.#judge(signed, clockSkewMs));
  }

  onCancelled({ work, reason, message }: Cancellation): void {
    // Another participant's: signed by the operator as well, but not for us.
    if (work?.participant !== this.#deps.invitation.participant || work.purpose !== "delta") return;
    // In turn: the plan that this cancels may still be on its way through the ledger.
    this.#judging = this.#judging.then(() => {
      for (const each of this.#works.values())
        if (isUpTo(each.assignment, work)) each.cancel(reason || "Cancelled", message);
    });
  }

  /** The operator has cut this participant off: it sends no cancellation any more, and its rounds go on without. */
  onRevoked(message: string): void {
    this.#judging = this.#judging.then(() => {
      for (const each of this.#works.values()) each.cancel("Revoked", message);
    });
  }

  /** Not signed by the operator: the session believes the peers' signatures and nothing else. */
  onStep({ work, step }: ProtocolStep): void {
    if (this.#isStopped || !work || !step || work.purpose !== "delta") return;
    this.#inTurn("step of secure aggregation not answered", async () => {
      const running = this.#works.get(assignmentKey(work));
      if (running && !hasEnded(running.assignment)) running.ask(step);
      else await askedAfterEnd(work, step, this.#deps);
    });
  }

  onDraw(step: DrawStep): void {
    if (this.#isStopped) return;
    this.#inTurn("draw not answered; the operator asks again at the next connection", () => this.#draws.on(step));
  }

  onConnected(): void {
    for (const work of this.#works.values()) work.tellAgain();
  }

  onStorageChanged(): void {
    for (const work of this.#works.values()) work.storageChanged();
  }

  onJobChanged(jobName: string): void {
    for (const work of this.#works.values()) if (work.assignment.job === jobName) work.wake();
  }

  /** Ends the loops where they are; the ledger knows how to go on. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const work of this.#works.values()) work.stop();
    await this.#judging;
    // What a plan that was just judged has begun.
    for (const work of this.#works.values()) work.stop();
    await Promise.all(this.#runs.values());
  }

  /** What the operator says is taken in the order in which it was said. */
  #inTurn(complaint: string, handle: () => Promise<void>): void {
    if (this.#waiting >= MOST_WAITING) {
      this.#log.warn({ waiting: this.#waiting }, complaint);
      return;
    }
    this.#waiting++;
    this.#judging = this.#judging
      .then(handle)
      .catch((error: unknown) => this.#log.error({ err: error }, complaint))
      .finally(() => {
        this.#waiting--;
      });
  }

  async #judge(signed: Signed, clockSkewMs: number): Promise<void> {
    const arrived = this.#desk.open(signed, clockSkewMs);
    if (!arrived) return;
    const { plan } = arrived;
    const judged = await this.#desk.judge(arrived, this.#isNameTaken(plan));
    if (judged.isKnown) return this.#answerAgain(plan);
    const { latest } = judged.seen;
    this.#tellLog(plan, judged.verdict);
    if (judged.verdict.verdict === "accept" && latest) return this.#takeOver(arrived, judged.seen, latest);
    if (judged.verdict.verdict === "refuse") await this.#desk.tellSite(plan, judged.verdict);
    if (latest || isAnswered(plan, judged.seen)) {
      // The ledger's own refusals leave no trace in it: what it has answered stays answered.
      if (judged.verdict.verdict === "refuse") this.#refuseLate(arrived, judged.verdict, latest);
      return;
    }
    await this.#begin(arrived, judged);
  }

  #tellLog({ federation, roundName, attempt }: Plan, given: Verdict): void {
    const { verdict, reason, message } = { reason: "", message: "", ...given };
    this.#log.info({ federation, round: roundName, attempt, verdict, reason, message }, "plan judged");
  }

  async #begin(arrived: Arrived, { verdict, seen }: Judged): Promise<void> {
    const { plan, body, clockSkewMs } = arrived;
    const { ledger, invitation } = this.#deps;
    const seed = verdict.verdict === "accept" ? await ledger.seed(plan) : 0;
    const { participant } = invitation;
    const nowMs = this.#now();
    const assignment = newAssignment(arrived, verdict, { participant, seed, clockSkewMs, nowMs });
    const pins = verdict.verdict === "accept" ? (verdict.pin ?? []) : [];
    await ledger.begin(assignment, body, seen.highestRound, [
      ...ledger.pins.firstUse(plan.federation, pins, nowMs),
      ...(await ledger.draws.forget(plan)),
    ]);
    if (pins.length > 0) this.#desk.tellOfPins(plan, pins.length);
    const work = new Work(assignment, plan, this.#deps);
    if (verdict.verdict === "accept") this.#accept(work);
    this.#start(work);
  }

  /**
   * A later attempt takes the place of the one before: its loop is ended first, so that nothing it says or writes can come after, and what was
   * decided is decided again on what the ledger holds then; one commit is the whole change (work.ts supersede()).
   */
  async #takeOver(arrived: Arrived, before: Seen, { assignment, plan: earlierPlan }: Attempt): Promise<void> {
    const { ledger } = this.#deps;
    const { plan, body, clockSkewMs } = arrived;
    const earlier = this.#works.get(assignmentKey(assignment)) ?? new Work(assignment, earlierPlan, this.#deps);
    // A cancellation that is not in the ledger yet: what it ends goes on under no other plan.
    if (earlier.cancelled) {
      const message = `this site's part in the round has ended: ${earlier.cancelled.message}`;
      return this.#refuseLate(arrived, { verdict: "refuse", reason: "WorkEnded", message }, undefined);
    }
    earlier.stop();
    await this.#runs.get(earlier);
    let taken: Assignment | undefined;
    try {
      const { verdict, seen } = await this.#desk.judge(arrived, false);
      if (verdict.verdict === "refuse") {
        this.#tellLog(plan, verdict);
        this.#refuseLate(arrived, verdict, seen.latest);
      } else {
        const nowMs = this.#now();
        const pins = ledger.pins.firstUse(plan.federation, verdict.pin ?? [], nowMs);
        await earlier.supersede((current) => {
          const next = takenOver(arrived, current, { clockSkewMs, nowMs });
          taken = next;
          return [...ledger.beginWrites(next, body, before.highestRound), ...pins];
        });
      }
    } finally {
      this.#works.delete(earlier.key);
      if (taken && hasEnded(earlier.assignment)) {
        const work = new Work(taken, plan, this.#deps);
        this.#accept(work);
        this.#start(work);
      } else {
        this.#startAgain(earlier, earlierPlan);
      }
    }
  }

  /** As it was, with a cancellation that came meanwhile. */
  #startAgain({ assignment, cancelled }: Work, plan: Plan): void {
    const again = new Work(assignment, plan, this.#deps);
    if (cancelled) again.cancel(cancelled.reason, cancelled.message);
    this.#start(again);
  }

  /**
   * Refused, and not recorded. The operator has signed that the attempt before is over: unless this site has said all it had to say in it,
   * nothing is worked on any more that nobody waits for.
   */
  #refuseLate(arrived: Arrived, refusal: Refusal, latest: Attempt | undefined): void {
    const { plan, planHash } = arrived;
    const { participant } = this.#deps.invitation;
    this.#desk.refuse({ ...plan, participant, planHash: Buffer.from(planHash).toString("hex") }, refusal);
    const endsEarlier = latest && plan.attempt > latest.assignment.attempt && latest.session?.state !== "RELEASED";
    if (endsEarlier) this.#works.get(assignmentKey(latest.assignment))?.cancel(refusal.reason, refusal.message);
  }

  /** The operator chooses rounds' names; Job and work folder are called after them, and have to be one assignment's alone. */
  #isNameTaken(plan: Plan): boolean {
    const job = trainerJobName(plan.roundName, this.#deps.invitation.participant, plan.attempt);
    return [...this.#works.values()].some(
      ({ assignment }) =>
        assignment.job === job &&
        !assignment.cleaned &&
        (assignment.federation !== plan.federation || assignment.round !== plan.round),
    );
  }

  /** The first answer may have been lost, or the operator restored. */
  async #answerAgain(of: { federation: string; round: number; attempt: number }): Promise<void> {
    const { ledger, link } = this.#deps;
    const work = this.#works.get(assignmentKey(of));
    const assignment = work?.assignment ?? (await ledger.assignment(of));
    if (!assignment) return;
    const { state } = assignment;
    const drop = (error: unknown) =>
      this.#log.debug({ err: error, round: assignment.roundName }, "answer not repeated");
    if (state.kind === "Refused") this.#desk.refuse(assignment, state);
    else if (state.kind === "Failed") void link.fail(assignment, state).catch(drop);
    else if (work && !hasEnded(assignment)) {
      this.#accept(work);
      work.tellAgain();
    }
  }

  #accept(work: Work): void {
    this.#deps.link.accept(work.assignment).catch((error: unknown) => {
      // A later attempt's plan is on its way, or a cancellation: until then the trainer goes on for it.
      if (error instanceof NotWanted && error.reason === ATTEMPT_ENDED) return;
      if (error instanceof NotWanted) work.cancel(error.reason, error.message);
      else this.#log.debug({ err: error, round: work.assignment.roundName }, "acceptance not acknowledged");
    });
  }

  #start(work: Work): void {
    this.#works.set(work.key, work);
    this.#count();
    const run = work.run().then(
      () => {
        // Stopped, to be gone on with: its Job is still somebody's.
        if (!hasEnded(work.assignment)) return;
        this.#works.delete(work.key);
        this.#count();
      },
      (error: unknown) => this.#log.error({ err: error, round: work.assignment.roundName }, "assignment broke off"),
    );
    this.#runs.set(work, run);
    void run.finally(() => this.#runs.delete(work));
  }

  #count(): void {
    this.#deps.metrics.open(this.open().length);
  }

  #now(): number {
    return (this.#deps.now ?? Date.now)();
  }
}

/** A cancellation ends its own attempt and those before; one that was said before a later attempt was planned does not touch that. */
function isUpTo({ federation, round, attempt }: Assignment, of: WireWork): boolean {
  return federation === of.federation && round === of.round && attempt <= of.attempt;
}

function isAnswered({ round }: Plan, { planHash, highestRound, forgottenRound = 0 }: Seen): boolean {
  return planHash !== undefined || round <= Math.max(highestRound, forgottenRound);
}
