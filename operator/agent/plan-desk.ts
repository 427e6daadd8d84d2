/**
 * A plan as it arrives: opened, held against what the ledger knows, judged; its refusal said to the operator and shown to the site's people.
 * Holds: a plan of a form that this version does not know is refused like any other, by the names that it shows.
 * Does not: write what was answered, or work on it (agent.ts).
 */
import type { Logger } from "pino";
import { z } from "zod";
import type { Plan } from "../round/plan.ts";
import { TransportFault } from "../transport/faults.ts";
import type { Signed } from "../transport/generated/rondo.v1.ts";
import { publicKeyFromRaw } from "../transport/identity.ts";
import type { Invitation } from "../transport/invitation.ts";
import { openPlan, planHashOf, type ReceivedPlan } from "../transport/plan.ts";
import type { SitePolicy } from "./config.ts";
import type { Ledger } from "./ledger.ts";
import type { NamedWork, OperatorLink } from "./link.ts";
import { judge, type Refusal, type Seen, type Verdict } from "./policy.ts";
import { seenOf } from "./seen.ts";
import type { SiteEvents } from "./site-events.ts";

export interface PlanDeskDeps {
  ledger: Ledger;
  link: Pick<OperatorLink, "refuse">;
  invitation: Pick<Invitation, "participant" | "planKey">;
  /** Ed25519 public key, base64. */
  identity: string;
  policy: SitePolicy;
  events: SiteEvents;
  log: Logger;
  now(): number;
}

/** A plan whose signature is right, and this agent's clock minus the operator's when it came. */
export interface Arrived extends ReceivedPlan {
  body: Uint8Array;
  clockSkewMs: number;
}

export interface Judged {
  verdict: Verdict;
  seen: Seen;
  /** Answered before: this very plan. */
  isKnown: boolean;
}

export class PlanDesk {
  readonly #deps: PlanDeskDeps;

  constructor(deps: PlanDeskDeps) {
    this.#deps = deps;
  }

  /** undefined: of a form that this version does not know; refused. */
  open(signed: Signed, clockSkewMs: number): Arrived | undefined {
    const { invitation, log } = this.#deps;
    try {
      const planKey = publicKeyFromRaw(Buffer.from(invitation.planKey, "base64"));
      return { ...openPlan(signed, planKey), body: signed.body, clockSkewMs };
    } catch (error) {
      if (!(error instanceof TransportFault) || error.code !== "PlanInvalid") throw error;
      // The signature is the operator's (transport), so what names the round may be read to answer it.
      const named = namedWork.parse(JSON.parse(Buffer.from(signed.body).toString("utf8")));
      const planHash = Buffer.from(planHashOf(signed.body)).toString("hex");
      const message = `${error.message}; agent and operator may be of different versions`;
      log.warn({ round: named.roundName, err: error }, "plan not understood");
      this.refuse(
        { ...named, purpose: "delta", participant: invitation.participant, planHash },
        { reason: error.code, message },
      );
      return undefined;
    }
  }

  /** By the ledger as it is now. @param isNameTaken  see Seen */
  async judge({ plan, planHash, clockSkewMs }: Arrived, isNameTaken: boolean): Promise<Judged> {
    const { ledger, invitation, identity, policy, now } = this.#deps;
    const seen = { ...(await seenOf(ledger, plan)), isNameTaken };
    const hash = Buffer.from(planHash).toString("hex");
    const { training, aggregation } = plan.deadlines;
    const time = { nowMs: now(), trainingMs: training + clockSkewMs, aggregationMs: aggregation + clockSkewMs };
    const verdict = judge(plan, hash, { participant: invitation.participant, identity, policy }, seen, time);
    return { verdict, seen, isKnown: seen.planHash === hash };
  }

  /** In passing: a plan that is judged next does not wait until this is acknowledged. */
  refuse(of: NamedWork, refusal: { reason: string; message: string }): void {
    const { link, log } = this.#deps;
    link
      .refuse(of, refusal)
      .catch((error: unknown) => log.debug({ err: error, round: of.round }, "refusal not acknowledged"));
  }

  /** The site's people see each refusal; keys that they have to compare are kept for `rondo agent roster`. */
  async tellSite(plan: Plan, { reason, message, proposed }: Refusal): Promise<void> {
    const { ledger, events, now } = this.#deps;
    if (proposed) await ledger.pins.propose(plan, proposed, now());
    events.warn(undefined, reason, `The plan of ${plan.roundName} of ${plan.federation} was refused: ${message}`);
  }

  /** First use trusts the coordinator once, and for a federation that it may have made up: its people must hear of it. */
  tellOfPins({ federation, roundName }: Plan, count: number): void {
    const sentence = `${roundName} is the first round of ${federation} here: the keys of its ${count} other members are pinned as the operator showed them; compare fingerprints with their sites: rondo agent roster`;
    this.#deps.events.warn(undefined, "RosterPinned", sentence);
  }
}

const namedWork = z.object({
  federation: z.string().min(1).max(400),
  round: z.int().min(1),
  attempt: z.int().min(1),
  roundName: z.string().max(63).default(""),
});
