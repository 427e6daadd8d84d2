import { expect, test } from "vitest";
import type { Plan } from "../round/plan.ts";
import { policySchema } from "./config.ts";
import { judge, type Seen, type Site } from "./policy.ts";
import { makePlan } from "./testing/plan.ts";

const identity = Buffer.alloc(32, 7).toString("base64");
const nowMs = 1_000_000;
const sealingKey = Buffer.alloc(32, 1).toString("base64");
const plan = makePlan({
  participant: "clinic-a",
  identity,
  parentDigest: "2".repeat(64),
  parentBytes: 100,
  sealingKey,
  nowMs,
});
const policy = policySchema.parse({
  federations: ["example.org/fl/clinic-notes"],
  images: ["registry.example/*"],
  privacy: ["trusted"],
  minParticipants: 2,
  gpus: { max: 1 },
});
const site: Site = { participant: "clinic-a", identity, policy };
const nothing: Seen = { highestRound: 0 };

const judged = (change: { plan?: Partial<Plan>; policy?: Partial<Site["policy"]>; seen?: Seen; nowMs?: number } = {}) =>
  judge(
    { ...plan, ...change.plan },
    "hash",
    { ...site, policy: { ...policy, ...change.policy } },
    change.seen ?? nothing,
    {
      nowMs: change.nowMs ?? nowMs,
      trainingMs: plan.deadlines.training,
      aggregationMs: plan.deadlines.aggregation,
    },
  );

test("a plan within the site's rules is accepted", () => {
  expect(judged()).toEqual({ verdict: "accept" });
});

test("the same plan again is judged as before, so that a lost answer can be repeated", () => {
  expect(judged({ seen: { highestRound: 1, planHash: "hash" } })).toEqual({ verdict: "accept" });
});

test.each([
  {
    says: "a federation that is not listed",
    change: { policy: { federations: ["example.org/fl/other"] } },
    reason: "FederationNotAllowed",
    message: "policy: federation example.org/fl/clinic-notes is not in the allow-list",
  },
  {
    says: "an image that is not listed",
    change: { policy: { images: ["ghcr.io/*"] } },
    reason: "ImageNotAllowed",
    message: "policy: image registry.example/trainer:9 is not in the allow-list",
  },
  {
    says: "an image whose name a terminal would obey",
    change: { plan: { training: { ...plan.training, image: "ghcr.io/x\u001b[2J\ny" } } },
    reason: "ImageNotAllowed",
    message: "policy: image ghcr.io/x [2J y is not in the allow-list",
  },
  {
    says: "a base model that is not listed",
    change: { policy: { baseModels: ["org/other"] } },
    reason: "BaseModelNotAllowed",
    message: "policy: base model tiny-llama is not in the allow-list",
  },
  {
    says: "training that spends privacy of records, at a site without a budget for it",
    change: {
      plan: {
        training: {
          ...plan.training,
          recordPrivacy: { noiseMultiplier: "1.1", maxGradNorm: "1.0", sampleRate: "0.01" },
        },
      },
    },
    reason: "NoRecordBudget",
    message:
      "policy: the plan spends privacy of records, and this site has set no budget for it (policy.recordPrivacy)",
  },
  {
    says: "fewer participants than the site wants",
    change: { policy: { minParticipants: 3 } },
    reason: "TooFewParticipants",
    message: "policy: 2 invited, this site takes part with at least 3",
  },
  {
    says: "more GPUs than the site gives",
    change: { policy: { gpus: { max: 0 } } },
    reason: "TooManyGpus",
    message: "policy: 1 GPUs asked for, at most 0 are allowed",
  },
  {
    says: "a roster without this identity",
    change: { plan: { roster: [{ participant: "clinic-a", identity: sealingKey }] }, policy: { minParticipants: 1 } },
    reason: "NotInRoster",
  },
  {
    says: "a roster that names a participant twice to look larger",
    change: { plan: { roster: [plan.roster[0]!, { ...plan.roster[1]!, participant: "clinic-a" }] } },
    reason: "PlanMalformed",
  },
  {
    says: "a roster that lists one identity under two names",
    change: { plan: { roster: [plan.roster[0]!, { participant: "other", identity }] } },
    reason: "PlanMalformed",
  },
  {
    says: "a roster that lists one identity under two names, in two spellings of base64",
    change: { plan: { roster: [plan.roster[0]!, { participant: "other", identity: identity.replace("wc=", "wd=") }] } },
    reason: "PlanMalformed",
  },
  {
    says: "a round that is called like one that is still worked on: they would share a work folder, and a delta",
    change: { seen: { highestRound: 0, isNameTaken: true } },
    reason: "RoundNameTaken",
  },
  {
    says: "a round that is not above the highest seen",
    change: { seen: { highestRound: 4 } },
    reason: "RoundTooOld",
    message: "round 1 is not above 4, the highest this agent has seen",
  },
  {
    says: "a second, different plan for the same round",
    change: { seen: { highestRound: 1, planHash: "other" } },
    reason: "PlanChanged",
  },
  {
    says: "a tensor table out of order",
    change: { plan: { tensors: [...plan.tensors].reverse() } },
    reason: "PlanMalformed",
  },
  {
    says: "a tensor named twice",
    change: { plan: { tensors: [plan.tensors[0]!, plan.tensors[0]!] } },
    reason: "PlanMalformed",
  },
  {
    says: "deadlines out of order",
    change: { plan: { deadlines: { accept: 3, training: 2, aggregation: 4 } } },
    reason: "PlanMalformed",
  },
  {
    says: "no clip",
    change: { plan: { aggregation: { ...plan.aggregation, clipNorm: "0" } } },
    reason: "PlanMalformed",
  },
  {
    says: "a plan that came after its training deadline",
    change: { nowMs: plan.deadlines.training },
    reason: "DeadlinePassed",
  },
])("refused: $says", ({ change, reason, message }) => {
  expect(judged(change)).toMatchObject({ verdict: "refuse", reason, ...(message ? { message } : {}) });
});
