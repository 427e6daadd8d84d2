/** A later attempt's plan before what this site has done in the attempt before (secure-aggregation.md §4 "Attempts", §6). */
import { expect, test } from "vitest";
import type { Plan } from "../round/plan.ts";
import { attemptFault } from "./attempts.ts";
import { policySchema } from "./config.ts";
import type { Attempt } from "./ledger.ts";
import { takenOver } from "./new-assignment.ts";
import { judge } from "./policy.ts";
import type { Assignment, AssignmentState } from "./record.ts";
import type { SessionRow } from "./secagg/session-record.ts";
import { planBytes } from "./testing/plan.ts";
import { makeSecurePlan, secureOf, testMember } from "./testing/secure-plan.ts";

const nowMs = 1_000_000;
const members = ["clinic-a", "clinic-b", "clinic-c", "clinic-d", "clinic-e", "clinic-f"].map(testMember);
const first = makeSecurePlan({ parentDigest: "2".repeat(64), parentBytes: 100, nowMs }, members);
const names = members.map(({ participant }) => participant);

/** Attempt 2 without the last member. */
function later(change: Partial<Plan> = {}, kept = names.slice(0, 5)): Plan {
  const roster = first.roster.filter(({ participant }) => kept.includes(participant));
  return { ...first, attempt: 2, roster, secure: secureOf([kept]), ...change };
}

const assignment = (state: AssignmentState, more: Partial<Assignment> = {}): Assignment => ({
  schema: 1,
  federation: first.federation,
  round: 1,
  roundName: first.roundName,
  attempt: 1,
  purpose: "delta",
  participant: "clinic-a",
  planHash: "00",
  privacy: "secure",
  deadlines: { acceptMs: nowMs + 100, trainingMs: nowMs + 1_000, aggregationMs: nowMs + 2_000 },
  receivedMs: nowMs,
  job: "clinic-notes-r1-clinic-a-1",
  seed: 5,
  token: "t",
  state,
  stateSinceMs: nowMs,
  told: false,
  cleaned: false,
  ...more,
});
const session = (state: SessionRow["state"], more: Partial<SessionRow> = {}): { session: SessionRow } => ({
  session: { schema: 1, state, sinceMs: nowMs, open: "", ...more },
});
const attempt = (state: AssignmentState, more: Partial<Attempt> = {}): Attempt => ({
  assignment: assignment(state),
  plan: first,
  ...more,
});
const prepared = { kind: "Prepared" } as const;

test.each<{ says: string; earlier: Attempt }>([
  ...(["Accepted", "JobCreated", "Training", "Trained", "Prepared"] as const).map((kind) => ({
    says: `work that is ${kind}`,
    earlier: attempt({ kind }),
  })),
  ...(["ADVERTISED", "SHARED", "MASKED", "SIGNED"] as const).map((state) => ({
    says: `a session that is ${state}`,
    earlier: attempt(prepared, session(state)),
  })),
])("it takes over $says", ({ earlier }) => expect(attemptFault(later(), earlier)).toBeUndefined());

test("it takes over with the same members too", () => {
  expect(attemptFault(later({}, names), attempt(prepared))).toBeUndefined();
});

const two = { ...first, secure: secureOf([names.slice(0, 3), names.slice(3)]) };
const problem = { reason: "BadShare", message: "the shares from clinic-b cannot be decrypted", accused: ["clinic-b"] };

test.each<{ says: string; plan?: Plan; earlier?: Attempt; reason: string; message?: string }>([
  {
    says: "a session that has released its shares",
    earlier: attempt({ kind: "Contributed" }, session("RELEASED")),
    reason: "AlreadyReleased",
    message: "this site has given its shares for attempt 1 of the round already, and gives its delta to one sum only",
  },
  {
    says: "a session that has released its shares, though the record does not say so yet",
    earlier: attempt(prepared, session("RELEASED")),
    reason: "AlreadyReleased",
  },
  {
    says: "a session that failed a check, though the record does not say so yet",
    earlier: attempt(prepared, session("ABORTED", { problem })),
    reason: "WorkEnded",
    message: "this site's part in the round has ended: the shares from clinic-b cannot be decrypted",
  },
  ...(["Failed", "Cancelled", "Refused"] as const).map((kind) => ({
    says: `what ended ${kind}`,
    earlier: attempt({ kind, reason: "X", message: "the trainer crashed" }),
    reason: "WorkEnded",
    message: "this site's part in the round has ended: the trainer crashed",
  })),
  {
    says: "an attempt that is newer",
    earlier: { ...attempt(prepared), assignment: assignment(prepared, { attempt: 3 }) },
    reason: "RoundTooOld",
  },
  {
    says: "another parent",
    plan: later({ parent: { ...first.parent, version: 1 } }),
    reason: "PlanChanged",
    message: "the plan of a later attempt changes parent; it may only leave members out",
  },
  { says: "another name of the round", plan: later({ roundName: "other" }), reason: "PlanChanged" },
  { says: "other training", plan: later({ training: { ...first.training, steps: 9 } }), reason: "PlanChanged" },
  {
    says: "another clip of the whole delta",
    plan: later({ aggregation: { ...first.aggregation, clipNorm: "9.0" } }),
    reason: "PlanChanged",
  },
  { says: "a lower minimum", plan: later({ minimum: 3 }), reason: "PlanChanged" },
  { says: "other tensors", plan: later({ tensors: first.tensors.slice(0, 1) }), reason: "PlanChanged" },
  {
    says: "another ring",
    plan: later({ secure: secureOf([names.slice(0, 5)], { ring: "u16" }) }),
    reason: "PlanChanged",
  },
  {
    says: "fewer metrics",
    plan: later({ secure: secureOf([names.slice(0, 5)], { metrics: [] }) }),
    reason: "PlanChanged",
  },
  {
    says: "another clip of a tensor",
    plan: later({
      secure: secureOf([names.slice(0, 5)], {
        scales: first.secure!.scales.map(({ scale }) => ({ clip: "2", scale })),
      }),
    }),
    reason: "PlanChanged",
    message: "the plan of a later attempt changes clips; it may only leave members out",
  },
  {
    says: "another key of a member",
    plan: later({
      roster: later().roster.map((member, i) => (i === 1 ? { ...member, identity: members[5]!.identity } : member)),
    }),
    reason: "PlanChanged",
  },
  {
    says: "a member that was not there",
    plan: later({ roster: [...later().roster, { ...testMember("clinic-x"), privateKey: undefined } as never] }),
    reason: "PlanChanged",
  },
  {
    says: "the members in other cohorts",
    plan: later({
      secure: secureOf([
        ["clinic-a", "clinic-d", "clinic-e"],
        ["clinic-b", "clinic-c", "clinic-f"],
      ]),
      roster: first.roster,
    }),
    earlier: attempt(prepared, { plan: two }),
    reason: "PlanChanged",
    message:
      "the plan of a later attempt splits its members into other cohorts than the attempt before; it may only leave members out",
  },
  {
    says: "both cohorts made one",
    plan: later({ secure: secureOf([names]), roster: first.roster }),
    earlier: attempt(prepared, { plan: two }),
    reason: "PlanChanged",
  },
  {
    says: "the mode in which the operator sees each delta",
    plan: { ...later(), secure: undefined } as Plan,
    reason: "PlanChanged",
  },
])("it does not take over $says", ({ plan = later(), earlier = attempt(prepared), reason, message }) => {
  const fault = attemptFault(plan, earlier);
  expect(fault).toMatchObject({ reason, ...(message && { message }) });
});

test("a cohort that nobody is left of is none any more, and the others stay as they were", () => {
  const plan = later({ secure: secureOf([names.slice(0, 3)]) }, names.slice(0, 3));
  expect(attemptFault(plan, attempt(prepared, { plan: two }))).toBeUndefined();
});

test("it is judged like any plan besides: a cohort that became smaller than the site wants is refused", () => {
  const policy = policySchema.parse({ federations: ["*"], images: ["*"], gpus: { max: 1 }, minCohort: 6 });
  const site = { participant: "clinic-a", identity: members[0]!.identity, policy };
  const pins = new Map(members.map(({ participant, identity }) => [participant, identity]));
  const seen = { highestRound: 1, pins, latest: attempt(prepared) };
  const { training: trainingMs, aggregation: aggregationMs } = first.deadlines;
  const verdict = (plan: Plan, rules = policy, atMs = nowMs) =>
    judge(plan, "hash", { ...site, policy: rules }, seen, { nowMs: atMs, trainingMs, aggregationMs });
  expect(verdict(later())).toMatchObject({ reason: "CohortTooSmall" });
  const five = { ...policy, minCohort: 5 };
  expect(verdict(later(), five)).toEqual({ verdict: "accept" });
  // The delta is there: the training deadline, which a removal before sharing keeps, has nothing more to say.
  expect(verdict(later(), five, trainingMs)).toEqual({ verdict: "accept" });
  expect(verdict(later(), five, aggregationMs)).toMatchObject({ reason: "DeadlinePassed" });
  expect(verdict({ ...later(), round: 1, attempt: 1 }, five)).toMatchObject({ reason: "RoundTooOld" });
});

test("the new record goes on where the one before stands: same Job, folder, token, seed and result, by the new plan's deadlines", () => {
  const result = { schema: 1 as const, examples: 50, steps: 4, tokens: 1000 };
  const before = assignment(prepared, { result, told: true });
  const plan = later({ deadlines: { ...first.deadlines, aggregation: nowMs + 9_000 } });
  const planHash = planBytes(plan).hash;
  const next = takenOver({ plan, planHash }, before, { clockSkewMs: 10, nowMs: nowMs + 5 });
  expect(next).toEqual({
    ...before,
    attempt: 2,
    began: 1,
    planHash: Buffer.from(planHash).toString("hex"),
    deadlines: {
      acceptMs: plan.deadlines.accept + 10,
      trainingMs: plan.deadlines.training + 10,
      aggregationMs: nowMs + 9_010,
    },
    receivedMs: nowMs + 5,
    told: false,
  });
  expect(takenOver({ plan: { ...plan, attempt: 3 }, planHash }, next, { clockSkewMs: 0, nowMs })).toMatchObject({
    attempt: 3,
    began: 1,
    job: before.job,
  });
});
