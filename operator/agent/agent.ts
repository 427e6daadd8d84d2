/**
 * The participant's side of every round: plans come in, are judged, answered and worked on; cancellations end them.
 * Holds: an answer is in the ledger before it is given; the same plan again gets the same answer; plans are judged one after the other.
 * Does not: start processes or servers (run.ts).
 */
import type { Logger } from "pino";
import { z } from "zod";
import type { Plan } from "../round/plan.ts";
import { trainerJobName } from "../trainer/job.ts";
import { TransportFault } from "../transport/faults.ts";
import type {
  Cancellation,
  DrawStep,
  ProtocolStep,
  Signed,
  Work as WireWork,
} from "../transport/generated/rondo.v1.ts";
import { publicKeyFromRaw } from "../transport/identity.ts";
import type { Invitation } from "../transport/invitation.ts";
import { openPlan, planHashOf, type ReceivedPlan } from "../transport/plan.ts";
import type { SitePolicy } from "./config.ts";
import { NotWanted } from "./link.ts";
import { newAssignment } from "./new-assignment.ts";
import { workOf } from "./operator-link.ts";
import { judge, type Refusal, type Verdict } from "./policy.ts";
import { type Assignment, assignmentKey, hasEnded } from "./record.ts";
import { askedAfterEnd } from "./secagg/after-end.ts";
import { Draws } from "./secagg/draws.ts";
import { giveUpIfOld } from "./secagg/old-ledger.ts";
import { seenOf } from "./seen.ts";
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
  readonly #runs = new Set<Promise<void>>();
  readonly #draws: Draws;
  #judging: Promise<void> = Promise.resolve();
  #waiting = 0;
  #isStopped = false;

  constructor(deps: AgentDeps) {
    this.#deps = deps;
    this.#log = deps.log;
    const { ledger, link, policy, log, secure } = deps;
    const { participant } = deps.invitation;
    this.#draws = new Draws({ ledger, link, policy, log, participant, sign: secure.sign, events: secure.events });
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
      this.#works.get(assignmentKey(work))?.cancel(reason || "Cancelled", message);
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

  onJobChanged(jobName: string): void {
    for (const work of this.#works.values()) if (work.assignment.job === jobName) work.wake();
  }

  /** Ends the loops where they are; the ledger knows how to go on. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#judging;
    for (const work of this.#works.values()) work.stop();
    await Promise.all(this.#runs);
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
    const { invitation, identity, policy, ledger } = this.#deps;
    const received = this.#open(signed);
    if (!received) return;
    const { plan, planHash } = received;
    const seen = { ...(await seenOf(ledger, plan)), isNameTaken: this.#isNameTaken(plan) };
    const nowMs = this.#now();
    const site = { participant: invitation.participant, identity, policy };
    const trainingMs = plan.deadlines.training + clockSkewMs;
    const hash = Buffer.from(planHash).toString("hex");
    if (seen.planHash === hash) return this.#answerAgain(plan);
    const verdict = judge(plan, hash, site, seen, { nowMs, trainingMs });
    const assignment = await this.#assignmentOf(received, verdict, clockSkewMs);
    const { verdict: word, reason, message } = { reason: "", message: "", ...verdict };
    this.#log.info(
      { federation: plan.federation, round: plan.roundName, verdict: word, reason, message },
      "plan judged",
    );
    if (verdict.verdict === "refuse") await this.#tellSite(plan, verdict);
    if (seen.planHash !== undefined || plan.round <= Math.max(seen.highestRound, seen.forgottenRound ?? 0)) {
      // The ledger's own refusals leave no trace in it: what it has answered stays answered.
      if (verdict.verdict === "refuse") this.#refuse(assignment, verdict);
      return;
    }
    const pins = verdict.verdict === "accept" ? (verdict.pin ?? []) : [];
    await ledger.begin(assignment, signed.body, seen.highestRound, [
      ...ledger.pins.firstUse(plan.federation, pins, nowMs),
      ...(await ledger.draws.forget(plan)),
    ]);
    if (pins.length > 0) this.#tellOfPins(plan, pins.length);
    const work = new Work(assignment, plan, this.#deps);
    if (verdict.verdict === "accept") this.#accept(work);
    this.#start(work);
  }

  /** First use trusts the coordinator once, and for a federation that it may have made up: its people must hear of it. */
  #tellOfPins({ federation, roundName }: Plan, count: number): void {
    const sentence = `${roundName} is the first round of ${federation} here: the keys of its ${count} other members are pinned as the operator showed them; compare fingerprints with their sites: rondo agent roster`;
    this.#deps.secure.events.warn(undefined, "RosterPinned", sentence);
  }

  /** The operator chooses rounds' names; Job and work folder are called after them, and have to be one assignment's alone. */
  #isNameTaken(plan: Plan): boolean {
    const job = trainerJobName(plan.roundName, this.#deps.invitation.participant, plan.attempt);
    const key = assignmentKey(plan);
    return [...this.#works.values()].some(
      (work) => work.key !== key && work.assignment.job === job && !work.assignment.cleaned,
    );
  }

  /** The site's people see each refusal; keys that they have to compare are kept for `rondo agent roster`. */
  async #tellSite(plan: Plan, { reason, message, proposed }: Refusal): Promise<void> {
    const { ledger, secure } = this.#deps;
    if (proposed) await ledger.pins.propose(plan, proposed, this.#now());
    const sentence = `The plan of ${plan.roundName} of ${plan.federation} was refused: ${message}`;
    secure.events.warn(undefined, reason, sentence);
  }

  /** undefined: of a form that this version does not know; refused. */
  #open(signed: Signed): ReceivedPlan | undefined {
    const { invitation } = this.#deps;
    try {
      return openPlan(signed, publicKeyFromRaw(Buffer.from(invitation.planKey, "base64")));
    } catch (error) {
      if (!(error instanceof TransportFault) || error.code !== "PlanInvalid") throw error;
      // The signature is the operator's (transport), so what names the round may be read to answer it.
      const named = namedWork.parse(JSON.parse(Buffer.from(signed.body).toString("utf8")));
      const planHash = Buffer.from(planHashOf(signed.body)).toString("hex");
      const message = `${error.message}; agent and operator may be of different versions`;
      this.#log.warn({ round: named.roundName, err: error }, "plan not understood");
      this.#refuse(
        { ...named, purpose: "delta", participant: invitation.participant, planHash },
        { reason: error.code, message },
      );
      return undefined;
    }
  }

  /** In passing: a plan that is judged next does not wait until this is acknowledged. */
  #refuse(of: Parameters<WorkDeps["link"]["refuse"]>[0], refusal: { reason: string; message: string }): void {
    this.#deps.link
      .refuse(of, refusal)
      .catch((error: unknown) => this.#log.debug({ err: error }, "refusal not acknowledged"));
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
    if (state.kind === "Refused") this.#refuse(assignment, state);
    else if (state.kind === "Failed") void link.fail(assignment, state).catch(drop);
    else if (work && !hasEnded(assignment)) {
      this.#accept(work);
      work.tellAgain();
    }
  }

  #accept(work: Work): void {
    this.#deps.link.accept(work.assignment).catch((error: unknown) => {
      if (error instanceof NotWanted) work.cancel(error.reason, error.message);
      else this.#log.debug({ err: error, round: work.assignment.roundName }, "acceptance not acknowledged");
    });
  }

  async #assignmentOf(received: ReceivedPlan, verdict: Verdict, clockSkewMs: number): Promise<Assignment> {
    const { ledger, invitation } = this.#deps;
    const seed = verdict.verdict === "accept" ? await ledger.seed(received.plan) : 0;
    const { participant } = invitation;
    return newAssignment(received, verdict, { participant, seed, clockSkewMs, nowMs: this.#now() });
  }

  #start(work: Work): void {
    this.#works.set(work.key, work);
    this.#count();
    const run = work.run().then(
      () => {
        if (this.#isStopped) return;
        this.#works.delete(work.key);
        this.#count();
      },
      (error: unknown) => this.#log.error({ err: error, round: work.assignment.roundName }, "assignment broke off"),
    );
    this.#runs.add(run);
    void run.finally(() => this.#runs.delete(run));
  }

  #count(): void {
    this.#deps.metrics.open(this.open().length);
  }

  #now(): number {
    return (this.#deps.now ?? Date.now)();
  }
}

const namedWork = z.object({
  federation: z.string().min(1).max(400),
  round: z.int().min(1),
  attempt: z.int().min(1),
  roundName: z.string().max(63).default(""),
});
