/** A small secure plan and its members: identities whose private halves the test has, so that it can be everybody else. */
import type { KeyObject } from "node:crypto";
import type { Plan } from "../../round/plan.ts";
import { thresholdOf } from "../../secagg/thresholds.ts";
import { PLAN_METRICS, planScales } from "../../secagg/vector.ts";
import { generateIdentity, rawPublicKey } from "../../transport/identity.ts";
import { makePlan, type PlanParts, tensors } from "./plan.ts";

export interface TestMember {
  participant: string;
  /** Ed25519 public key, base64. */
  identity: string;
  privateKey: KeyObject;
}

export function testMember(participant: string): TestMember {
  const { privateKey, publicKey } = generateIdentity();
  return { participant, privateKey, identity: Buffer.from(rawPublicKey(publicKey)).toString("base64") };
}

/** What `secure` says of these cohorts when it is honest; each as a plan lists it, ascending. */
export function secureOf(
  cohorts: readonly (readonly string[])[],
  change: Partial<NonNullable<Plan["secure"]>> = {},
): NonNullable<Plan["secure"]> {
  const largestCohort = Math.max(...cohorts.map((cohort) => cohort.length));
  const ring = change.ring ?? "u32";
  return {
    ring,
    largestCohort,
    cohorts: cohorts.map((members) => ({ members: [...members], threshold: thresholdOf(members.length) })),
    scales: planScales(
      ring,
      largestCohort,
      tensors.map(() => 1),
    ),
    metrics: PLAN_METRICS,
    ...change,
  };
}

/** One cohort of all members. */
export function makeSecurePlan(
  parts: Omit<PlanParts, "sealingKey" | "participant" | "identity">,
  members: readonly Pick<TestMember, "participant" | "identity">[],
  change: Partial<Plan> = {},
): Plan {
  const roster = members
    .map(({ participant, identity }) => ({ participant, identity }))
    .sort((a, b) => Buffer.compare(Buffer.from(a.participant), Buffer.from(b.participant)));
  const { sealing: _, ...plan } = makePlan({ ...parts, sealingKey: "", ...roster[0]! });
  const { nowMs } = parts;
  return {
    ...plan,
    roster,
    minimum: roster.length,
    aggregation: { ...plan.aggregation, privacy: "secure" },
    secure: secureOf([roster.map(({ participant }) => participant)]),
    deadlines: {
      ...plan.deadlines,
      share: nowMs + 130_000,
      mask: nowMs + 150_000,
      consistency: nowMs + 170_000,
    },
    ...change,
  };
}
