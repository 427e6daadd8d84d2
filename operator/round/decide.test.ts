import { describe, expect, test } from "vitest";
import { decide } from "./decide.ts";
import { APPLY_GRACE_MS } from "./pending.ts";
import type { RoundRecord } from "./record.ts";
import { aggregating, NAMES, participant, pending, publishing, T0, TERMS, training, world } from "./testing/worlds.ts";
import type { World } from "./world.ts";

const known = world().federation as Extract<World["federation"], { kind: "known" }>;
const published = { kind: "published", version: 1, digest: "sha256:dd", reference: "r@sha256:dd" } as const;
const failedPush = { kind: "failed", problem: "connection refused", unreachable: true, atMs: T0, tries: 3 } as const;
const made = {
  kind: "made",
  attempt: 1,
  number: 7,
  hash: "ab",
  parentVersion: 6,
  parentByteLength: 500,
  uploadLimitBytes: 1000,
  roster: NAMES,
  minimum: TERMS.minimum,
  aggregationMs: TERMS.aggregationMs,
  deadlines: { acceptMs: T0 + 60_000, trainingMs: T0 + 600_000, aggregationMs: T0 + 720_000 },
} as const;
const waitingSince = (atMs: number): RoundRecord => ({
  ...pending(),
  waiting: { for: "FederationNotFound", message: "", sinceMs: atMs },
});

interface Case {
  says: string;
  record: RoundRecord;
  world?: Partial<World>;
  phase: RoundRecord["phase"];
  /** `do` of every action, in order. */
  does?: string[];
  reason?: string;
  message?: RegExp;
  states?: string[];
}

const suspend = (n: number) => known.candidates.map((c, i) => ({ ...c, suspended: i < n }));

const cases: Case[] = [
  { says: "a federation that is there and ready is planned for", record: pending(), phase: "Planning", does: ["plan"] },
  {
    says: "an unknown federation may still be on its way",
    record: pending(),
    world: { federation: { kind: "unknown" } },
    phase: "Pending",
    does: [],
  },
  {
    says: "an unknown federation fails after ten seconds",
    record: waitingSince(T0 - APPLY_GRACE_MS),
    world: { federation: { kind: "unknown" } },
    phase: "Failed",
    reason: "FederationNotFound",
    message: /no Federation "fed"/,
  },
  {
    says: "settings that contradict each other fail at once",
    record: pending(),
    world: { federation: { kind: "invalid", problem: "deadlines.accept is no duration" } },
    phase: "Failed",
    reason: "InvalidSettings",
    message: /deadlines.accept is no duration/,
  },
  {
    says: "an earlier round goes first, however long it takes",
    record: waitingSince(T0 - 9e6),
    world: { earlier: "fed-r0" },
    phase: "Pending",
    does: [],
  },
  {
    says: "version 0 in the making is waited for",
    record: pending(),
    world: { federation: { ...known, adapter: { kind: "making" } } },
    phase: "Pending",
  },
  {
    says: "version 0 that cannot be made fails the round with its sentence",
    record: pending(),
    world: { federation: { ...known, adapter: { kind: "failed", problem: "the model's config.json is missing" } } },
    phase: "Failed",
    reason: "InitialiseFailed",
    message: /config.json is missing/,
  },
  {
    says: "a minimum above the participants there are fails after ten seconds and names who is missing",
    record: waitingSince(T0 - APPLY_GRACE_MS),
    world: { federation: { ...known, candidates: suspend(2) } },
    phase: "Failed",
    reason: "TooFewParticipants",
    message: /minimum is 2, but 1 Participant can be invited \(suspended: ann, ben\)/,
  },
  {
    says: "a plan in the making is asked for again",
    record: { ...pending(), phase: "Planning" },
    phase: "Planning",
    does: ["plan"],
  },
  {
    says: "a plan that was made starts the training",
    record: { ...pending(), phase: "Planning" },
    world: { plan: made },
    phase: "Training",
    does: ["sendPlan"],
    states: ["Invited", "Invited", "Invited"],
  },
  {
    says: "a plan that can never be made fails the round",
    record: { ...pending(), phase: "Planning" },
    world: { plan: { kind: "failed", problem: "the parent is gone", retry: false } },
    phase: "Failed",
    reason: "PlanFailed",
    message: /the parent is gone/,
  },
  {
    says: "whoever has not answered by the accept deadline is Lost",
    record: training("Invited", "Training", "Training"),
    world: { nowMs: T0 + 60_000, connected: new Set(["ben", "cy"]) },
    phase: "Training",
    does: ["cancel", "sendPlan"],
    states: ["Lost", "Training", "Training"],
  },
  {
    says: "a pod that no node took by the accept deadline is Failed with the scheduler's words, and the quorum is lost",
    record: {
      ...training("Training", "Scheduling", "Refused"),
      participants: [
        participant("ann", "Training", { startedMs: T0 }),
        participant("ben", "Scheduling", {
          reason: "Unschedulable",
          message: "0/1 nodes are available: 1 Insufficient nvidia.com/gpu",
        }),
        participant("cy", "Refused", { message: "policy: image not in allow-list" }),
      ],
    },
    world: { nowMs: T0 + 60_000 },
    phase: "Failed",
    does: ["cancel", "cancel", "cleanUp"],
    reason: "QuorumLost",
    message: /1 of 3 can still contribute, 2 are needed; ben Failed \(0\/1 nodes.*\); cy Refused \(policy: image/,
  },
  {
    says: "a pod that was evicted after it ran is not judged by the accept deadline",
    record: {
      ...training("Training", "Training", "Training"),
      participants: NAMES.map((n) => participant(n, "Scheduling", { startedMs: T0 })),
    },
    world: { nowMs: T0 + 60_001 },
    phase: "Training",
    states: ["Scheduling", "Scheduling", "Scheduling"],
  },
  {
    says: "while two of three may still come the round goes on",
    record: training("Training", "Training", "Failed"),
    phase: "Training",
  },
  {
    says: "contributions are added while others train",
    record: training("Training", "Contributed", "Failed"),
    phase: "Training",
    does: ["sendPlan", "sum"],
  },
  {
    says: "the training deadline ends it without the slow one",
    record: training("Training", "Contributed", "Contributed"),
    world: { nowMs: T0 + 600_000, sum: { added: ["ben", "cy"], refused: [] } },
    phase: "Aggregating",
    states: ["Failed", "Contributed", "Contributed"],
  },
  {
    says: "a participant that was suspended is Lost at once",
    record: training("Training", "Training", "Training"),
    world: { revoked: new Set(["cy"]) },
    phase: "Training",
    does: ["cancel", "sendPlan"],
    states: ["Training", "Training", "Lost"],
  },
  {
    says: "when nobody trains any more the round aggregates",
    record: training("Trained", "Sharing", "Lost"),
    phase: "Aggregating",
  },
  {
    says: "an upload that is under way is waited for",
    record: aggregating("Sharing", "Contributed", "Contributed"),
    world: { sum: { added: ["ben", "cy"], refused: [] } },
    phase: "Aggregating",
    does: [],
  },
  {
    says: "an upload that does not end by the deadline is Lost, and the rest is enough",
    record: aggregating("Sharing", "Contributed", "Contributed"),
    world: { nowMs: T0 + 720_000, sum: { added: ["ben", "cy"], refused: [] } },
    phase: "Aggregating",
    does: ["cancel", "makeCandidate"],
    states: ["Lost", "Contributed", "Contributed"],
  },
  {
    says: "a contribution that cannot be opened is Excluded",
    record: aggregating("Contributed", "Contributed", "Contributed"),
    world: {
      sum: {
        added: ["ben", "cy"],
        refused: [{ participant: "ann", reason: "NotOpened", message: "record 1 was altered" }],
      },
    },
    phase: "Aggregating",
    does: ["cancel", "makeCandidate"],
    states: ["Excluded", "Contributed", "Contributed"],
  },
  {
    says: "too few that can be opened lose the quorum",
    record: aggregating("Contributed", "Contributed", "Failed"),
    world: {
      sum: { added: ["ben"], refused: [{ participant: "ann", reason: "NotOpened", message: "record 1 was altered" }] },
    },
    phase: "Failed",
    reason: "QuorumLost",
    message: /ann Excluded \(record 1 was altered\)/,
  },
  {
    says: "a finished candidate is published",
    record: aggregating("Contributed", "Contributed", "Lost"),
    world: { candidate: { kind: "made", digest: "sha256:cc", file: "/adapters/cc", byteLength: 500 } },
    phase: "Publishing",
    does: ["publish"],
  },
  {
    says: "a sum that never ends is given up",
    record: aggregating("Contributed", "Contributed", "Lost"),
    world: { nowMs: T0 + 840_000 },
    phase: "Failed",
    reason: "DeadlineExceeded",
  },
  {
    says: "a registry that is down is tried again after a pause",
    record: publishing(),
    world: { nowMs: T0 + 3_999, publish: failedPush },
    phase: "Publishing",
    does: [],
  },
  {
    says: "and when the pause is over",
    record: publishing(),
    world: { nowMs: T0 + 4_000, publish: failedPush },
    phase: "Publishing",
    does: ["publish"],
  },
  {
    says: "and until the deadline, then the round fails with the registry's name",
    record: publishing(),
    world: { nowMs: T0 + 120_000, publish: failedPush },
    phase: "Failed",
    reason: "RegistryUnreachable",
    message: /nothing was published.*connection refused/,
  },
  {
    says: "a push that is being aborted may still say that it ended well",
    record: publishing(),
    world: { nowMs: T0 + 120_001, publishing: true },
    phase: "Publishing",
    does: ["abortPublish"],
  },
  {
    says: "what is published is activated, whatever the clock says",
    record: publishing(),
    world: { nowMs: T0 + 9e6, publish: published },
    phase: "Publishing",
    does: ["activate"],
  },
  {
    says: "an active adapter is success",
    record: { ...publishing(), published: { version: 1, digest: "sha256:dd", reference: "r@sha256:dd" } },
    world: { activated: true },
    phase: "Succeeded",
    does: ["cleanUp"],
    reason: "Published",
    message: /version 1 from 2 of 3 participants is at r@sha256:dd/,
  },
  {
    says: "an AdapterVersion that is refused is tried again while a person may still free its name",
    record: { ...publishing(), published: { version: 1, digest: "sha256:dd", reference: "r@sha256:dd" } },
    world: { nowMs: T0 + 179_999, activationProblem: "dictionaries-v1 belongs to another adapter" },
    phase: "Publishing",
    does: ["activate"],
  },
  {
    says: "and a minute after the deadline the round fails with what has to be freed",
    record: { ...publishing(), published: { version: 1, digest: "sha256:dd", reference: "r@sha256:dd" } },
    world: { nowMs: T0 + 180_000, activationProblem: "dictionaries-v1 belongs to another adapter" },
    phase: "Failed",
    reason: "ActivationFailed",
    message: /version 1 is in the registry.*belongs to another adapter.*free its name/,
  },
  {
    says: "a deleted round is cancelled at everybody who works on it",
    record: training("Training", "Contributed", "Refused"),
    world: { deleting: true },
    phase: "Cancelled",
    does: ["cancel", "cleanUp"],
    reason: "Cancelled",
  },
  {
    says: "a deletion after the push does not take the adapter back",
    record: { ...publishing(), published: { version: 1, digest: "sha256:dd", reference: "r@sha256:dd" } },
    world: { deleting: true },
    phase: "Publishing",
    does: ["activate"],
  },
];

describe("decide", () => {
  test.each(cases)("$says", ({ record, world: over, phase, does, reason, message, states }) => {
    const decision = decide(record, world(over));
    expect(decision.record.phase).toBe(phase);
    if (does) expect(decision.actions.map((a) => a.do)).toEqual(does);
    if (reason) expect(decision.record.outcome?.reason).toBe(reason);
    if (message) expect(decision.record.outcome?.message).toMatch(message);
    if (states) expect(decision.record.participants.map((p) => p.state)).toEqual(states);
    const terminal = ["Succeeded", "Failed", "Cancelled"].includes(phase);
    if (!terminal && !over?.earlier)
      expect(decision.lookAgainAtMs ?? Number.POSITIVE_INFINITY).toBeGreaterThanOrEqual(T0);
  });

  test("a terminal record never changes again", () => {
    const ended = decide(training("Failed", "Failed", "Failed"), world()).record;
    expect(decide(ended, world({ deleting: true, nowMs: T0 + 1e9 })).record).toBe(ended);
  });

  test("time saved in training is not waited away in aggregation", () => {
    const { record } = decide(training("Trained", "Trained", "Trained"), world({ nowMs: T0 + 1000 }));
    expect(record.deadlines?.aggregationMs).toBe(T0 + 1000 + TERMS.aggregationMs);
  });
});
