import { describe, expect, test } from "vitest";
import { decide } from "./decide.ts";
import { APPLY_GRACE_MS, STORAGE_LIMIT_MS } from "./pending.ts";
import type { RoundRecord } from "./record.ts";
import { applyReport } from "./reports.ts";
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

const full = { storage: { problem: "the operator's volume (/data) is full: enlarge it" } } as const;
const noRoom = {
  sum: { added: ["ann", "ben"], refused: [] },
  candidate: { kind: "failed", problem: "no space left on device", retry: { atMs: T0, tries: 3 } },
} satisfies Partial<World>;
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
    says: "a suspended federation starts nothing, for as long as it likes",
    record: waitingSince(T0 - 9e6),
    world: { federation: { ...known, suspended: true } },
    phase: "Pending",
    does: [],
  },
  {
    says: "what runs goes on when the federation is suspended",
    record: training("Trained", "Training", "Training"),
    world: { federation: { ...known, suspended: true } },
    phase: "Training",
    does: ["sendPlan"],
  },
  {
    says: "what runs goes on when the Federation is deleted: its plan says all",
    record: training("Trained", "Trained", "Lost"),
    world: { federation: { kind: "unknown" } },
    phase: "Aggregating",
  },
  {
    says: "a full volume starts nothing for now",
    record: pending(),
    world: full,
    phase: "Pending",
    does: [],
  },
  {
    says: "a volume that stays full fails the round after an hour, with what to do",
    record: { ...pending(), waiting: { for: "StorageFull", message: "", sinceMs: T0 - STORAGE_LIMIT_MS } },
    world: full,
    phase: "Failed",
    reason: "StorageFull",
    message: /is full: enlarge it/,
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
    says: "a plan that failed for a reason that may pass is tried again in two seconds, not at once",
    record: { ...pending(), phase: "Planning" },
    world: { nowMs: T0 + 1_999, plan: { kind: "failed", problem: "down", retry: true, atMs: T0 } },
    phase: "Planning",
    does: [],
  },
  {
    says: "and then",
    record: { ...pending(), phase: "Planning" },
    world: { nowMs: T0 + 2_000, plan: { kind: "failed", problem: "down", retry: true, atMs: T0 } },
    phase: "Planning",
    does: ["plan"],
  },
  {
    says: "settings that give no plan fail under their own name",
    record: { ...pending(), phase: "Planning" },
    world: {
      plan: { kind: "failed", problem: "overselect is too high", retry: false, code: "InvalidSettings" },
    },
    phase: "Failed",
    reason: "InvalidSettings",
    message: /overselect is too high/,
  },
  {
    says: "a plan that had no room for five minutes fails with what to do about it",
    record: { ...pending(), phase: "Planning" },
    world: { ...full, nowMs: T0 + 300_000 },
    phase: "Failed",
    reason: "StorageFull",
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
    says: "a sum that had no room is written again after a pause",
    record: aggregating("Contributed", "Contributed", "Lost"),
    world: { ...noRoom, nowMs: T0 + 3_999 },
    phase: "Aggregating",
    does: [],
  },
  {
    says: "and when the pause is over",
    record: aggregating("Contributed", "Contributed", "Lost"),
    world: { ...noRoom, nowMs: T0 + 4_000 },
    phase: "Aggregating",
    does: ["makeCandidate"],
  },
  {
    says: "and until its deadline, then the round fails with the disk's sentence",
    record: aggregating("Contributed", "Contributed", "Lost"),
    world: { ...noRoom, nowMs: T0 + 840_000 },
    phase: "Failed",
    reason: "AggregationFailed",
    message: /no space left/,
  },
  {
    says: "a cancelled round is cancelled at everybody who works on it, and says by what",
    record: training("Training", "Contributed", "Refused"),
    world: { cancelled: true },
    phase: "Cancelled",
    does: ["cancel", "cleanUp"],
    reason: "Cancelled",
    message: /cancelled \(spec.cancel\)/,
  },
  {
    says: "a round that waits is cancelled too",
    record: pending(),
    world: { cancelled: true, earlier: "fed-r0" },
    phase: "Cancelled",
  },
  {
    says: "a cancelled push is aborted first, and says how it ended",
    record: publishing(),
    world: { cancelled: true, publishing: true },
    phase: "Publishing",
    does: ["abortPublish"],
  },
  {
    says: "one that was aborted in time is Cancelled",
    record: publishing(),
    world: { cancelled: true, publish: failedPush },
    phase: "Cancelled",
  },
  {
    says: "one that was quicker than its abortion is an adapter",
    record: publishing(),
    world: { cancelled: true, publish: published },
    phase: "Publishing",
    does: ["activate"],
  },
  {
    says: "a cancelled push that never says how it ended is given up",
    record: publishing(),
    world: { cancelled: true, publishing: true, nowMs: T0 + 125_000 },
    phase: "Cancelled",
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

  test("a full volume shows in a round that goes on, and is forgotten when there is room", () => {
    const { record } = decide(training("Training", "Training", "Training"), world({ ...full, nowMs: T0 + 5 }));
    expect(record.waiting).toEqual({ for: "StorageFull", message: full.storage.problem, sinceMs: T0 + 5 });
    // The very same record while nothing is new: it is not written again, least of all to a full disk.
    expect(decide(record, world({ ...full, nowMs: T0 + 9 })).record).toBe(record);
    expect(decide(record, world()).record.waiting).toBeUndefined();
  });

  test("a suspension stops no other clock: what waits begins to wait anew when it is over", () => {
    const suspended = world({ federation: { ...known, suspended: true } });
    const record = decide(waitingSince(T0 - 9e6), suspended).record;
    expect(record.waiting).toMatchObject({ for: "Suspended", message: expect.stringMatching(/spec.suspend/) });
    expect(decide(record, world({ federation: { kind: "unknown" } })).record.phase).toBe("Pending");
    expect(decide(record, world()).record.phase).toBe("Planning");
  });

  test("means over fewer than three contributors stay out of the record", () => {
    const metrics = { trainLoss: 1.5, tokens: 300 };
    const candidate = { kind: "made", digest: "sha256:cc", file: "/c", byteLength: 5, metrics } as const;
    const of = (...states: Parameters<typeof aggregating>) =>
      decide(aggregating(...states), world({ candidate })).record.candidate!;
    expect(of("Contributed", "Contributed", "Contributed").metrics).toEqual(metrics);
    expect(of("Contributed", "Contributed", "Lost").metrics).toBeUndefined();
  });

  test("time saved in training is not waited away in aggregation", () => {
    const { record } = decide(training("Trained", "Trained", "Trained"), world({ nowMs: T0 + 1000 }));
    expect(record.deadlines?.aggregationMs).toBe(T0 + 1000 + TERMS.aggregationMs);
  });
});

describe("whoever comes late or comes back", () => {
  const sent = ({ actions }: ReturnType<typeof decide>) =>
    actions.flatMap((action) => (action.do === "sendPlan" ? action.participants : []));

  test("is sent the plan for as long as it may accept it, and whenever it comes back", () => {
    const record = training("Invited", "Training", "Contributed");
    expect(sent(decide(record, world({ nowMs: T0 + 59_999, connected: new Set() })))).toEqual(["ann", "ben"]);
    expect(sent(decide(record, world({ nowMs: T0 + 60_000 })))).toEqual(["ben"]);
  });

  test("goes on where it was: an agent that is away loses nothing before a deadline", () => {
    const record = training("Training", "Trained", "Sharing");
    const { record: after } = decide(record, world({ nowMs: T0 + 599_999, connected: new Set() }));
    expect(after.participants).toEqual(record.participants);
    expect(applyReport(after, "ann", { ...status, state: "Trained" }, T0 + 599_999).participants[0]!.state).toBe(
      "Trained",
    );
  });

  test("and was not invited has its turn in the next round, not in this one", () => {
    const candidates = [...known.candidates, { name: "zoe", enrolled: true, suspended: false }];
    const over = { federation: { ...known, candidates }, connected: new Set([...NAMES, "zoe"]) };
    const { record, actions } = decide(training("Training", "Training", "Training"), world(over));
    expect(record.participants.map(({ name }) => name)).toEqual(NAMES);
    expect(sent({ record, actions })).toEqual(NAMES);
    expect(applyReport(record, "zoe", { kind: "accept" }, T0)).toBe(record);
  });
});

const status = { kind: "status", state: "", job: "", step: 0, steps: 0, reason: "", message: "" } as const;
