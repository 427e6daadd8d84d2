/** Whatever happens, in whatever order: a round ends by its last deadline, and what it ends with is consistent. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { decide } from "./decide.ts";
import { APPLY_GRACE_MS, INITIALISE_LIMIT_MS } from "./pending.ts";
import { PLANNING_LIMIT_MS } from "./planning.ts";
import { PUBLISH_GRACE_MS } from "./publishing.ts";
import { decodeRecord, encodeRecord, isTerminal, type RoundRecord } from "./record.ts";
import { applyContribution, applyReport, applyUploadBegun, uploadFault } from "./reports.ts";
import { contribution, NAMES, pending, T0, TERMS, world } from "./testing/worlds.ts";
import type { World } from "./world.ts";

const LONGEST_MS =
  APPLY_GRACE_MS +
  INITIALISE_LIMIT_MS +
  PLANNING_LIMIT_MS +
  TERMS.trainingMs +
  3 * TERMS.aggregationMs +
  PUBLISH_GRACE_MS;

const name = fc.constantFrom(...NAMES, "mallory");
const state = fc.constantFrom("Scheduling", "Training", "Trained", "Sharing", "Nonsense");
const report = fc.oneof(
  fc.constant({ kind: "accept" as const }),
  fc.record({ kind: fc.constant("refuse" as const), reason: fc.string(), message: fc.string() }),
  fc.record({ kind: fc.constant("fail" as const), reason: fc.string(), message: fc.string() }),
  fc.record({
    kind: fc.constant("status" as const),
    state,
    job: fc.string(),
    step: fc.nat(30),
    steps: fc.nat(20),
    reason: fc.string(),
    message: fc.string(),
  }),
);
const event = fc.oneof(
  fc.record({ at: fc.constant("report" as const), name, report }),
  fc.record({ at: fc.constant("upload" as const), name, root: fc.constantFrom("aa", "bb") }),
  fc.record({ at: fc.constant("clock" as const), ms: fc.nat(700_000) }),
  fc.record({
    at: fc.constant("federation" as const),
    kind: fc.constantFrom("unknown", "making", "ready", "ready", "ready"),
  }),
  fc.record({ at: fc.constant("revoke" as const), name }),
  fc.record({ at: fc.constant("refuseInSum" as const), name }),
  fc.record({
    at: fc.constant("works" as const),
    what: fc.constantFrom("plan", "sum", "candidate", "publish", "activate"),
  }),
  fc.record({ at: fc.constant("breaks" as const), what: fc.constantFrom("plan", "candidate", "publish") }),
  fc.constant({ at: "restart" as const }),
);
type Event = typeof event extends fc.Arbitrary<infer E> ? E : never;

function step(record: RoundRecord, w: World, e: Event): [RoundRecord, World] {
  const known = world().federation as Extract<World["federation"], { kind: "known" }>;
  switch (e.at) {
    case "report":
      return [applyReport(record, e.name, e.report, w.nowMs), w];
    case "upload": {
      const c = { ...contribution(e.name), root: e.root };
      if (uploadFault(record, c, w.nowMs)) return [record, w];
      return [applyContribution(applyUploadBegun(record, e.name, w.nowMs), c, w.nowMs), w];
    }
    case "clock":
      return [record, { ...w, nowMs: w.nowMs + e.ms }];
    case "federation": {
      if (e.kind === "unknown") return [record, { ...w, federation: { kind: "unknown" } }];
      return [record, { ...w, federation: { ...known, adapter: { kind: e.kind as "making" | "ready" } } }];
    }
    case "revoke":
      return [record, { ...w, revoked: new Set([...w.revoked, e.name]) }];
    case "refuseInSum":
      return [
        record,
        {
          ...w,
          sum: { ...w.sum, refused: [...w.sum.refused, { participant: e.name, reason: "Bad", message: "bad" }] },
        },
      ];
    case "works":
      return [record, works(record, w, e.what)];
    case "breaks":
      return [record, breaks(w, e.what)];
    case "restart":
      return [decodeRecord(encodeRecord(record)), restarted(w)];
  }
}

function restarted(w: World): World {
  const { plan: _plan, candidate: _candidate, publish: _publish, ...rest } = w;
  return { ...rest, sum: { added: [], refused: [] } };
}

function works(record: RoundRecord, w: World, what: string): World {
  const d = { acceptMs: w.nowMs + TERMS.acceptMs, trainingMs: w.nowMs + TERMS.trainingMs };
  const deadlines = { ...d, aggregationMs: d.trainingMs + TERMS.aggregationMs };
  if (what === "plan")
    return {
      ...w,
      plan: {
        kind: "made",
        attempt: 1,
        number: 1,
        hash: "ab",
        parentVersion: 0,
        parentByteLength: 5,
        uploadLimitBytes: 1000,
        roster: NAMES,
        minimum: TERMS.minimum,
        aggregationMs: TERMS.aggregationMs,
        deadlines,
      },
    };
  if (what === "sum") return { ...w, sum: { ...w.sum, added: record.contributions.map((c) => c.participant) } };
  if (what === "candidate" && record.phase === "Aggregating")
    return { ...w, candidate: { kind: "made", digest: "sha256:cc", file: "/c", byteLength: 5 } };
  if (what === "publish" && record.phase === "Publishing")
    return { ...w, publish: { kind: "published", version: 1, digest: "sha256:dd", reference: "r@d" } };
  return what === "activate" ? { ...w, activated: true } : w;
}

function breaks(w: World, what: string): World {
  if (what === "plan") return { ...w, plan: { kind: "failed", problem: "x", retry: true } };
  if (what === "candidate") return { ...w, candidate: { kind: "failed", problem: "disk full" } };
  return { ...w, publish: { kind: "failed", problem: "down", unreachable: true, atMs: w.nowMs, tries: 2 } };
}

// Two seconds on a quiet machine; a busy one must not make it fail.
test("any sequence of events and clock advances reaches a terminal phase by the last deadline", {
  timeout: 60_000,
}, () => {
  fc.assert(
    fc.property(fc.array(event, { maxLength: 60 }), (events) => {
      let record = pending();
      let w = world();
      for (const e of events) {
        [record, w] = step(record, w, e);
        const decision = decide(record, w);
        checkRecord(record, decision.record);
        record = decision.record;
      }
      // From here on nothing happens but time; we look exactly when decide() asked to.
      w = { ...w, publishing: false, activated: true };
      for (let looks = 0; !isTerminal(record); looks++) {
        expect(looks, "looks until the end").toBeLessThan(300);
        const { record: next, lookAgainAtMs } = decide(record, w);
        checkRecord(record, next);
        record = next;
        if (!isTerminal(record)) w = { ...w, nowMs: Math.max(w.nowMs, lookAgainAtMs ?? Number.POSITIVE_INFINITY) };
        if (!isTerminal(record)) expect(w.nowMs).not.toBe(Number.POSITIVE_INFINITY);
      }
      const idleMs = w.nowMs - events.reduce((sum, e) => sum + (e.at === "clock" ? e.ms : 0), T0);
      expect(idleMs).toBeLessThanOrEqual(LONGEST_MS);
      expect(decodeRecord(encodeRecord(record))).toEqual(record);
    }),
    { numRuns: 2000 },
  );
});

function checkRecord(before: RoundRecord, after: RoundRecord): void {
  if (isTerminal(before)) expect(after).toBe(before);
  if (after.phase === "Succeeded") {
    expect(after.published).toBeDefined();
    expect(after.candidate!.contributors).toBeGreaterThanOrEqual(after.plan!.minimum);
  }
  if (isTerminal(after)) expect(after.outcome?.message).toBeTruthy();
  for (const p of after.participants) {
    const was = before.participants.find((q) => q.name === p.name);
    if (was && ["Refused", "Excluded", "Lost", "Failed"].includes(was.state)) expect(p).toEqual(was);
    expect(p.message.length).toBeLessThanOrEqual(256);
  }
}
