/** A secure plan before the site's rules: what the coordinator may not choose (secure-aggregation.md §4–§6). */
import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import type { Plan } from "../../round/plan.ts";
import { cohortsOf, commitmentBytes, commitmentToNonce, drawSeed } from "../../secagg/draw.ts";
import { planScales } from "../../secagg/vector.ts";
import { policySchema } from "../config.ts";
import { signer } from "../identity.ts";
import { judge, type Seen } from "../policy.ts";
import { makeSecurePlan, secureOf, type TestMember, testMember } from "../testing/secure-plan.ts";
import type { DrawRow } from "./draw-ledger.ts";

const nowMs = 1_000_000;
const members = ["clinic-a", "clinic-b", "clinic-c", "clinic-d", "clinic-e"].map(testMember);
const names = members.map(({ participant }) => participant);
const plan = makeSecurePlan({ parentDigest: "2".repeat(64), parentBytes: 100, nowMs }, members);
const secure = plan.secure!;
const ends = { trainingMs: plan.deadlines.training, aggregationMs: plan.deadlines.aggregation };
const policy = policySchema.parse({ federations: ["*"], images: ["*"], gpus: { max: 1 } });
const pins = new Map(members.map(({ participant, identity }) => [participant, identity]));
const seen: Seen = { highestRound: 0, pins };

interface Change {
  plan?: Partial<Plan>;
  secure?: Partial<NonNullable<Plan["secure"]>>;
  policy?: Partial<typeof policy>;
  seen?: Partial<Seen>;
}

function judged(change: Change = {}) {
  const changed = { ...plan, secure: { ...secure, ...change.secure }, ...change.plan };
  const site = {
    participant: "clinic-a",
    identity: members[0]!.identity,
    policy: { ...policy, ...change.policy },
  };
  return judge(changed, "hash", site, { ...seen, ...change.seen }, { nowMs, ...ends });
}

test("an honest secure plan of pinned members is accepted", () => expect(judged()).toEqual({ verdict: "accept" }));

const { sealing: _, ...unsealed } = plan;
const four = makeSecurePlan({ parentDigest: "2".repeat(64), parentBytes: 100, nowMs }, members.slice(0, 4));
const key = Buffer.alloc(32, 1).toString("base64");

test.each<{ says: string; change: Change; reason: string; message?: string }>([
  {
    says: "a cohort that is smaller than the site wants",
    change: { plan: { roster: four.roster, secure: four.secure } },
    reason: "CohortTooSmall",
    message: "policy: this site's cohort has 4 members, it takes part with at least 5",
  },
  {
    says: "a lowered threshold",
    change: { secure: { cohorts: [{ members: names, threshold: 3 }] } },
    reason: "PlanMalformed",
    message: "cohort 0 of 5 has threshold 3, not 4",
  },
  {
    says: "a raised threshold",
    change: { secure: { cohorts: [{ members: names, threshold: 5 }] } },
    reason: "PlanMalformed",
  },
  {
    says: "a member of the roster in no cohort",
    change: { secure: { cohorts: [{ members: names.slice(0, 4), threshold: 3 }], largestCohort: 4 } },
    reason: "PlanMalformed",
    message: "the plan's cohorts are not its roster with each member once",
  },
  {
    says: "a stranger in a cohort",
    change: { secure: { cohorts: [{ members: [...names.slice(0, 4), "clinic-x"], threshold: 4 }] } },
    reason: "PlanMalformed",
  },
  {
    says: "a member in two cohorts",
    change: { secure: { cohorts: [secure.cohorts[0]!, { members: names.slice(0, 3), threshold: 3 }] } },
    reason: "PlanMalformed",
  },
  {
    says: "a cohort out of order",
    change: { secure: { cohorts: [{ members: [...names].reverse(), threshold: 4 }] } },
    reason: "PlanMalformed",
    message: "cohort 0 of the plan is not ascending",
  },
  {
    says: "a largest cohort that is larger than it is, which coarsens the steps",
    change: { secure: { largestCohort: 100 } },
    reason: "PlanMalformed",
    message: "the plan's largest cohort has 5 members, not 100",
  },
  {
    says: "a scale at which the sum would wrap around",
    change: { secure: { scales: secure.scales.map(({ clip, scale }) => ({ clip, scale: `${Number(scale) * 2}` })) } },
    reason: "PlanMalformed",
    message: `the plan's scale of ${plan.tensors[0]!.name} is not what its clip and largest cohort give`,
  },
  {
    says: "a clip of nothing",
    change: { secure: { scales: secure.scales.map(({ scale }) => ({ clip: "0", scale })) } },
    reason: "PlanMalformed",
  },
  {
    says: "a clip so small that its scale has no number",
    change: { secure: { scales: secure.scales.map(({ scale }) => ({ clip: "5e-324", scale })) } },
    reason: "PlanMalformed",
  },
  {
    says: "a clip whose square is nothing, so that masking would fail for ever",
    change: {
      secure: {
        scales: planScales(
          "u32",
          5,
          secure.scales.map(() => 1e-200),
        ),
      },
    },
    reason: "PlanMalformed",
  },
  {
    says: "a vector longer than what one key may mask",
    change: { plan: { tensors: plan.tensors.map(({ name }) => ({ name, shape: [2 ** 20, 2 ** 20] })) } },
    reason: "PlanMalformed",
  },
  {
    says: "keys that this site pinned under a ledger that is gone",
    change: { plan: { round: 5 }, seen: { forgottenRound: 4, pins: new Map() } },
    reason: "RosterChanged",
  },
  {
    says: "fewer scales than tensors",
    change: { secure: { scales: secure.scales.slice(1) } },
    reason: "PlanMalformed",
  },
  {
    says: "a metric that this agent does not know",
    change: { secure: { metrics: [{ name: "examples", scale: 1, perTensor: false }] } },
    reason: "PlanMalformed",
    message: "the plan asks for a metric examples that this agent does not know in that form",
  },
  {
    says: "a metric at another scale",
    change: { secure: { metrics: [{ name: "lossTokens", scale: 2 ** 30, perTensor: false }] } },
    reason: "PlanMalformed",
  },
  {
    says: "a metric twice",
    change: { secure: { metrics: [secure.metrics[0]!, secure.metrics[0]!] } },
    reason: "PlanMalformed",
  },
  { says: "a key to seal for", change: { plan: { sealing: { publicKey: key } } }, reason: "PlanMalformed" },
  { says: "no cohorts", change: { plan: { ...unsealed, secure: undefined as never } }, reason: "PlanMalformed" },
  {
    says: "no deadline for masking",
    change: { plan: { deadlines: { ...plan.deadlines, mask: undefined as never } } },
    reason: "PlanMalformed",
  },
  {
    says: "consistency that ends before masking",
    change: { plan: { deadlines: { ...plan.deadlines, consistency: plan.deadlines.mask! - 1 } } },
    reason: "PlanMalformed",
  },
  {
    says: "a parent of which three sums hold this site's delta",
    change: { seen: { spent: 3 } },
    reason: "ParentReused",
    message:
      "policy: 3 sums from this parent adapter may hold this site's delta already, and their differences tell on members",
  },
  {
    says: "a round that was worked on under a ledger that is gone",
    change: { seen: { forgottenRound: 4 } },
    reason: "LedgerTooOld",
  },
  {
    says: "a mode that the site does not allow",
    change: { policy: { privacy: ["trusted"] } },
    reason: "PrivacyNotAllowed",
  },
  {
    says: "two cohorts that nobody has drawn",
    change: {
      plan: { roster: sixRoster() },
      secure: secureOf([
        ["clinic-a", "clinic-b", "clinic-c"],
        ["clinic-d", "clinic-e", "clinic-f"],
      ]),
      policy: { minCohort: 3 },
    },
    reason: "DrawInvalid",
    message: "the plan has several cohorts and no draw that decided them",
  },
])("refused: $says", ({ change, reason, message }) => {
  expect(judged(change)).toMatchObject({ verdict: "refuse", reason, ...(message ? { message } : {}) });
});

test("two sums from one parent are allowed where the limit is three", () =>
  expect(judged({ seen: { spent: 2 } })).toEqual({ verdict: "accept" }));

test("a trusted plan with cohorts, or without a key to seal for, is refused", () => {
  const trusted = { ...plan.aggregation, privacy: "trusted" } as const;
  const rules = { privacy: ["trusted" as const] };
  const refusal = { verdict: "refuse", reason: "PlanMalformed" };
  expect(judged({ plan: { aggregation: trusted }, policy: rules })).toMatchObject(refusal);
  const both = { aggregation: trusted, sealing: { publicKey: key } };
  expect(judged({ plan: both, policy: rules })).toMatchObject(refusal);
});

function sixRoster() {
  return [...plan.roster, { participant: "clinic-f", identity: Buffer.alloc(32, 6).toString("base64") }];
}

/** A draw among six in which everybody is honest, and the plan that follows from it. */
function drawn() {
  const six: TestMember[] = ["clinic-a", "clinic-b", "clinic-c", "clinic-d", "clinic-e", "clinic-f"].map(testMember);
  const draw = { federation: plan.federation, round: plan.round, number: 1 };
  const entries = six.map(({ participant, privateKey }) => {
    const nonce = randomBytes(32);
    const commitment = commitmentToNonce(nonce);
    return { participant, nonce, commitment, signature: signer(privateKey)(commitmentBytes(draw, commitment)) };
  });
  const cohorts = cohortsOf(
    drawSeed(draw, entries),
    six.map(({ participant }) => participant),
    3,
  );
  const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString("base64");
  const nonces = entries.map(({ participant, nonce, commitment, signature }) => ({
    participant,
    nonce: base64(nonce),
    commitment: base64(commitment),
    signature: base64(signature),
  }));
  const whole = makeSecurePlan({ parentDigest: "2".repeat(64), parentBytes: 100, nowMs }, six, {
    secure: secureOf(cohorts, { draw: { number: 1, nonces } }),
  });
  const own: DrawRow = {
    ...draw,
    members: six.map(({ participant }) => participant),
    cohortSize: 3,
    nonce: nonces[0]!.nonce,
    commitment: nonces[0]!.commitment,
    signature: nonces[0]!.signature,
    shown: nonces.map(({ participant, commitment }) => ({ participant, commitment })),
  };
  const site = {
    participant: "clinic-a",
    identity: six[0]!.identity,
    policy: { ...policy, minCohort: 3 },
  };
  const judgeWith = (change: { plan?: Plan; draw?: Partial<DrawRow> | undefined }) => {
    const row = "draw" in change && !change.draw ? {} : { draw: { ...own, ...change.draw } };
    const known = { highestRound: 0, pins: new Map(six.map((m) => [m.participant, m.identity])), ...row };
    return judge(change.plan ?? whole, "hash", site, known, { nowMs, ...ends });
  };
  return { whole, judgeWith, nonces };
}

test("cohorts that follow from a draw in which this agent took part are accepted", () => {
  expect(drawn().judgeWith({})).toEqual({ verdict: "accept" });
});

test("cohorts are refused when this agent did not take part in their draw", () => {
  expect(drawn().judgeWith({ draw: undefined })).toMatchObject({ reason: "DrawInvalid" });
});

test("cohorts are refused when two members have changed places", () => {
  const { whole, judgeWith } = drawn();
  const [first, second] = whole.secure!.cohorts.map(({ members: list }) => [...list]);
  const swapped = secureOf([[...first!.slice(1), second![0]!].sort(), [first![0]!, ...second!.slice(1)].sort()], {
    draw: whole.secure!.draw!,
  });
  expect(judgeWith({ plan: { ...whole, secure: swapped } })).toMatchObject({ reason: "DrawInvalid" });
});

test("cohorts are refused when the draw was opened for another number of them", () => {
  expect(drawn().judgeWith({ draw: { cohortSize: 6 } })).toMatchObject({ reason: "DrawInvalid" });
});

test("cohorts are refused when a member has committed anew after the others' nonces were known", () => {
  const { judgeWith, nonces } = drawn();
  const shown = nonces.map(({ participant, commitment }) => ({ participant, commitment }));
  shown[5] = { participant: "clinic-f", commitment: Buffer.alloc(32, 9).toString("base64") };
  expect(judgeWith({ draw: { shown } })).toMatchObject({
    reason: "DrawInvalid",
    message: expect.stringContaining("other commitments"),
  });
});
