/**
 * Whether this site takes part in a planned round: plan × site policy × what the ledger has seen → accept, or refuse with reason and sentence.
 * Specified: protocol.md "A plan". The plan's signature and canonical form have been checked (transport).
 * Holds: pure; a sentence names what is in the plan and the rule it breaks, never anything of the site's data.
 */
import type { Plan } from "../round/plan.ts";
import { sampleComplaint } from "../round/sampling.ts";
import { sentence } from "../trainer/observe-job.ts";
import { attemptFault, isTrained } from "./attempts.ts";
import type { SitePolicy } from "./config.ts";
import type { Answered } from "./ledger.ts";
import { matchesAny } from "./patterns.ts";
import type { DrawRow } from "./secagg/draw-ledger.ts";
import { judgeSecurePlan } from "./secagg/secure-plan.ts";
import { parentReused } from "./secagg/session-ledger.ts";
import { judgeTrust, type Pins, type RosterKey } from "./trust.ts";

export type Verdict = Acceptance | Refusal;
export interface Acceptance {
  verdict: "accept";
  /** Keys to pin with the answer: this is the federation's first secure plan. */
  pin?: RosterKey[];
}
export interface Refusal {
  verdict: "refuse";
  /** CamelCase; reaches the round's status. */
  reason: string;
  message: string;
  /** Keys that the site's people may accept. */
  proposed?: RosterKey[];
}

/** What the ledger knows of the plan's federation. */
export interface Seen extends Answered {
  /** Rounds up to this one were worked on under a ledger that is gone (secure-aggregation.md §6.5). */
  forgottenRound?: number;
  /** Sessions from the plan's parent whose sums may hold this site's delta, this attempt's not counted. */
  spent?: number;
  pins?: Pins;
  /** This agent's part in the draw that the plan names. */
  draw?: DrawRow;
  /** Another assignment, not cleaned up yet, has the Job and the work folder that the plan's round name gives. */
  isNameTaken?: boolean;
}

export interface Site {
  participant: string;
  /** Ed25519 public key, base64. */
  identity: string;
  policy: SitePolicy;
}

/**
 * @param planHash       SHA-256 of the plan's bytes, hex
 * @param trainingMs     the plan's training deadline by this agent's clock
 * @param aggregationMs  likewise its last one: what counts for a later attempt whose delta is there already
 */
export function judge(
  plan: Plan,
  planHash: string,
  site: Site,
  seen: Seen,
  time: { nowMs: number; trainingMs: number; aggregationMs: number },
): Verdict {
  return (
    judgeLedger(plan, planHash, seen) ??
    judgePolicy(plan, site.policy) ??
    judgePlan(plan, site) ??
    judgeTime(seen, time) ??
    (plan.aggregation.privacy === "secure" ? judgeSecure(plan, site, seen) : judgeTrusted(plan)) ?? {
      verdict: "accept",
    }
  );
}

function judgeTime({ latest }: Seen, time: { nowMs: number; trainingMs: number; aggregationMs: number }) {
  const which = latest && isTrained(latest.assignment) ? "aggregation" : "training";
  return time.nowMs >= time[`${which}Ms`]
    ? refuse("DeadlinePassed", `the ${which} deadline had passed when the plan arrived`)
    : undefined;
}

/** Trust comes last: keys are proposed to the site's people only by a plan that is otherwise in order. */
function judgeSecure(plan: Plan, { participant, policy }: Site, seen: Seen): Verdict | undefined {
  const { minCohort, releasesPerParent, trust } = policy;
  const fault = judgeSecurePlan(plan, { participant, minCohort, draw: seen.draw });
  if (fault) return refuse(fault.reason, fault.message);
  if ((seen.spent ?? 0) >= releasesPerParent) return refuse("ParentReused", parentReused(releasesPerParent));
  const trusted = judgeTrust(plan, participant, trust, seen.pins ?? new Map(), (seen.forgottenRound ?? 0) > 0);
  if (trusted.verdict === "pin") return { verdict: "accept", pin: trusted.keys };
  if (trusted.verdict === "trusted") return undefined;
  return { ...refuse(trusted.reason, trusted.message), proposed: trusted.proposed };
}

function judgeTrusted(plan: Plan): Refusal | undefined {
  return plan.sealing && !plan.secure
    ? undefined
    : refuse("PlanMalformed", "a trusted round has a key to seal for and no cohorts");
}

function judgeLedger(plan: Plan, planHash: string, seen: Seen): Refusal | undefined {
  if (seen.planHash !== undefined && seen.planHash !== planHash) {
    return refuse(
      "PlanChanged",
      `a different plan for round ${plan.round}, attempt ${plan.attempt} was answered before`,
    );
  }
  const forgotten = seen.forgottenRound ?? 0;
  if (seen.planHash === undefined && plan.round <= forgotten) {
    return refuse(
      "LedgerTooOld",
      `this site's identity has masked in round ${forgotten}, of which its ledger knows nothing; it takes part from round ${forgotten + 1} on`,
    );
  }
  if (seen.planHash === undefined && seen.latest) {
    const fault = plan.round < seen.highestRound ? tooOld(plan, seen) : attemptFault(plan, seen.latest);
    return fault && refuse(fault.reason, fault.message);
  }
  if (seen.planHash === undefined && plan.round <= seen.highestRound) {
    const fault = tooOld(plan, seen);
    return refuse(fault.reason, fault.message);
  }
  // Two rounds in one work folder would put one delta into two sums, whose difference shows whoever is in one of them only.
  if (seen.isNameTaken) {
    return refuse("RoundNameTaken", `another round that this site works on is called ${plan.roundName} as well`);
  }
  return undefined;
}

function tooOld({ round }: Plan, { highestRound }: Seen) {
  return {
    reason: "RoundTooOld",
    message: `round ${round} is not above ${highestRound}, the highest this agent has seen`,
  };
}

/** What is asked of the site, by its own rules alone. */
export function judgePolicy(plan: Plan, policy: SitePolicy): Refusal | undefined {
  const { image, resources } = plan.training;
  if (!matchesAny(policy.federations, plan.federation)) {
    return refuse("FederationNotAllowed", `policy: federation ${plan.federation} is not in the allow-list`);
  }
  if (!matchesAny(policy.images, image)) {
    return refuse("ImageNotAllowed", `policy: image ${image} is not in the allow-list`);
  }
  if (!matchesAny(policy.baseModels, plan.baseModel.name)) {
    return refuse("BaseModelNotAllowed", `policy: base model ${plan.baseModel.name} is not in the allow-list`);
  }
  if (!policy.privacy.includes(plan.aggregation.privacy)) {
    return refuse("PrivacyNotAllowed", `policy: privacy mode ${plan.aggregation.privacy} is not allowed`);
  }
  if (plan.roster.length < policy.minParticipants) {
    return refuse(
      "TooFewParticipants",
      `policy: ${plan.roster.length} invited, this site takes part with at least ${policy.minParticipants}`,
    );
  }
  if (resources.gpus > policy.gpus.max) {
    return refuse("TooManyGpus", `policy: ${resources.gpus} GPUs asked for, at most ${policy.gpus.max} are allowed`);
  }
  if (plan.training.recordPrivacy && !policy.recordPrivacy) {
    return refuse(
      "NoRecordBudget",
      "policy: the plan spends privacy of records, and this site has set no budget for it (policy.recordPrivacy)",
    );
  }
  return undefined;
}

/** What no honest operator would plan; refused here because a site's files and memory hang on it. */
function judgePlan(plan: Plan, site: Site): Refusal | undefined {
  const own = plan.roster.find((member) => member.participant === site.participant);
  if (own?.identity !== site.identity) {
    return refuse("NotInRoster", "the plan's roster does not list this participant with this agent's identity");
  }
  // Names or keys that come twice would make a cohort look larger than it is.
  const isAscending = plan.roster.every(
    ({ participant }, i) => i === 0 || compareBytes(plan.roster[i - 1]!.participant, participant) < 0,
  );
  // Of the bytes: base64 can write one key in four ways.
  const keys = new Set(plan.roster.map(({ identity }) => Buffer.from(identity, "base64").toString("hex")));
  if (!isAscending || keys.size < plan.roster.length)
    return refuse("PlanMalformed", "the plan's roster is not ascending, or lists an identity twice");
  const unsampled = sampleComplaint(plan);
  if (unsampled) return refuse("PlanMalformed", unsampled);
  for (const [index, tensor] of plan.tensors.entries()) {
    const before = plan.tensors[index - 1];
    if (before && compareBytes(before.name, tensor.name) >= 0) {
      return refuse("PlanMalformed", `the plan's tensor table is not ascending at ${tensor.name}`);
    }
  }
  if (!(Number(plan.aggregation.clipNorm) > 0)) return refuse("PlanMalformed", "the plan's clipNorm is not above 0");
  const { accept, training, aggregation } = plan.deadlines;
  if (accept > training || training > aggregation)
    return refuse("PlanMalformed", "the plan's deadlines are out of order");
  return undefined;
}

function compareBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/** One line that a terminal may show: the plan's images, models and tensors may be called anything. */
function refuse(reason: string, message: string): Refusal {
  return { verdict: "refuse", reason, message: sentence(message, "") };
}
