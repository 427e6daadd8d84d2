/** Whatever members, operator and clock do: a secure round ends by its last deadline, its sets only shrink, and no cohort below t counts. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { type AnswerStep, applyAnswer, asked } from "./cohorts.ts";
import { decide } from "./decide.ts";
import { PUBLISH_GRACE_MS } from "./publishing.ts";
import { COHORT_STEPS, type Cohort, decodeRecord, encodeRecord, isTerminal, type RoundRecord } from "./record.ts";
import { applyContribution, applyFault, applyReport, applyUploadBegun, uploadFault } from "./reports.ts";
import { cohort, SEVEN, secureTraining } from "./testing/cohorts.ts";
import { contribution, T0, TERMS, world } from "./testing/worlds.ts";
import type { ClosedCohort, World } from "./world.ts";

const LONGEST_MS = TERMS.trainingMs + 3 * TERMS.aggregationMs + PUBLISH_GRACE_MS;

const name = fc.constantFrom(...SEVEN, "mallory");
const answer = fc.constantFrom<AnswerStep>("advertise", "share", "consistency", "unmask");
const event = fc.oneof(
  // So that sequences get far: everybody who is asked answers.
  { weight: 4, arbitrary: fc.record({ at: fc.constant("everybody" as const), but: fc.constantFrom("", ...SEVEN) }) },
  fc.record({ at: fc.constant("answer" as const), name, step: answer }),
  fc.record({ at: fc.constant("upload" as const), name, byteLength: fc.constantFrom(100, 100, 100, 99) }),
  fc.record({ at: fc.constant("fail" as const), name, accused: fc.array(name, { maxLength: 3 }) }),
  fc.record({ at: fc.constant("status" as const), name, state: fc.constantFrom("Training", "Trained", "Sharing") }),
  fc.record({ at: fc.constant("fault" as const), name }),
  fc.record({ at: fc.constant("revoke" as const), name }),
  fc.record({ at: fc.constant("clock" as const), ms: fc.nat(60_000) }),
  fc.record({ at: fc.constant("opened" as const), cohort: fc.constantFrom(0, 1), liar: name }),
  fc.record({
    at: fc.constant("closed" as const),
    cohort: fc.constantFrom(0, 1),
    code: fc.constantFrom("InconsistentDealer" as const, "NotEnoughShares" as const, "SumInvalid" as const),
  }),
  fc.record({ at: fc.constant("works" as const), what: fc.constantFrom("candidate", "publish", "activate") }),
  fc.constant({ at: "restart" as const }),
);
type Event = typeof event extends fc.Arbitrary<infer E> ? E : never;

function step(record: RoundRecord, w: World, e: Event): [RoundRecord, World] {
  switch (e.at) {
    case "everybody":
      return everybodyAnswers(record, w, e.but);
    case "answer":
      return [
        record.participants.some((p) => p.name === e.name) ? applyAnswer(record, e.name, e.step, w.nowMs) : record,
        w,
      ];
    case "upload":
      return [upload(record, w, e.name, e.byteLength), added(w, e.name)];
    case "fail":
      return [
        applyReport(record, e.name, { kind: "fail", reason: "BadShare", message: "x", accused: e.accused }, w.nowMs),
        w,
      ];
    case "status": {
      const report = { kind: "status" as const, state: e.state, job: "", step: 0, steps: 0, reason: "", message: "" };
      return [applyReport(record, e.name, report, w.nowMs), w];
    }
    case "fault":
      return [applyFault(record, e.name, { reason: "SignatureInvalid", message: "x" }, w.nowMs), w];
    case "revoke":
      return [record, { ...w, revoked: new Set([...w.revoked, e.name]) }];
    case "clock":
      return [record, { ...w, nowMs: w.nowMs + e.ms }];
    case "opened":
      return [
        record,
        ended(record, w, e.cohort, (sum) => ({
          ...sum,
          opened: [...(sum.opened ?? []), { cohort: e.cohort, liars: [e.liar] }],
        })),
      ];
    case "closed": {
      const accused = e.code === "InconsistentDealer" ? [{ participant: "ann", identity: "a2V5" }] : [];
      const closed: ClosedCohort = { cohort: e.cohort, code: e.code, message: "x", accused };
      return [record, ended(record, w, e.cohort, (sum) => ({ ...sum, closed: [...(sum.closed ?? []), closed] }))];
    }
    case "works":
      return [record, works(record, w, e.what)];
    case "restart":
      return [decodeRecord(encodeRecord(record)), restarted(w)];
  }
}

function everybodyAnswers(before: RoundRecord, w: World, but: string): [RoundRecord, World] {
  let record = before;
  let after = w;
  for (const { step: now, ...cohort } of before.secure!.cohorts) {
    for (const member of asked({ ...cohort, step: now }).filter((one) => one !== but)) {
      if (now === "mask") {
        record = upload(record, w, member, 100);
        after = added(after, member);
      } else if (now !== "complete") record = applyAnswer(record, member, now, w.nowMs);
    }
  }
  return [record, after];
}

/** Whoever is left answers, and the operator's own work is done. */
function everythingWorks(before: RoundRecord, w: World): [RoundRecord, World] {
  const [record, answered] = everybodyAnswers(before, w, "");
  const contributed = record.contributions.map(({ participant }) => participant);
  let after: World = { ...answered, sum: { ...answered.sum, added: contributed } };
  for (const number of record.secure!.cohorts.keys())
    after = ended(record, after, number, (sum) => ({
      ...sum,
      opened: [...(sum.opened ?? []), { cohort: number, liars: [] }],
    }));
  return [record, works(record, works(record, after, "candidate"), "publish")];
}

function upload(record: RoundRecord, w: World, participant: string, byteLength: number): RoundRecord {
  const c = { ...contribution(participant), byteLength };
  if (uploadFault(record, c, w.nowMs)) return record;
  return applyContribution(applyUploadBegun(record, participant, w.nowMs), c, w.nowMs);
}

function added(w: World, participant: string): World {
  return { ...w, sum: { ...w.sum, added: [...new Set([...w.sum.added, participant])] } };
}

/** The sum says something of a cohort once, and only when it was asked. */
function ended(record: RoundRecord, w: World, number: number, change: (sum: World["sum"]) => World["sum"]): World {
  const cohort = record.secure!.cohorts[number];
  const known = [...(w.sum.opened ?? []), ...(w.sum.closed ?? [])].some((one) => one.cohort === number);
  return cohort?.step !== "complete" || cohort.failure || known ? w : { ...w, sum: change(w.sum) };
}

function works(record: RoundRecord, w: World, what: string): World {
  const open = record.secure!.cohorts.flatMap(({ failure }, number) => (failure ? [] : [number]));
  const isOpened = open.every((number) => w.sum.opened?.some(({ cohort }) => cohort === number));
  if (what === "candidate" && record.phase === "Aggregating" && isOpened)
    return { ...w, candidate: { kind: "made", digest: "sha256:cc", file: "/c", byteLength: 5 } };
  if (what === "publish" && record.phase === "Publishing")
    return { ...w, publish: { kind: "published", version: 1, digest: "sha256:dd", reference: "r@d" } };
  return what === "activate" ? { ...w, activated: true } : w;
}

function restarted(w: World): World {
  const { candidate: _candidate, publish: _publish, ...rest } = w;
  return { ...rest, sum: { added: [], refused: [] } };
}

// Some seconds on a quiet machine; a busy one must not make it fail.
test.each([
  { says: "one cohort of five", sizes: [5] },
  { says: "two cohorts of four and three", sizes: [4, 3] },
])(
  "$says: any sequence of events ends by the last deadline, and never below a threshold",
  { timeout: 90_000 },
  ({ sizes }) => {
    let published = 0;
    fc.assert(
      fc.property(fc.array(event, { maxLength: 40 }), fc.boolean(), (events, endsWell) => {
        const cohorts = sizes.map((size, i) => cohort(SEVEN.slice(i * sizes[0]!, i * sizes[0]! + size)));
        let record = secureTraining(cohorts);
        let w = world({ connected: new Set(SEVEN) });
        const look = () => {
          const decision = decide(record, w);
          check(record, decision.record);
          record = decision.record;
          return decision.lookAgainAtMs;
        };
        for (const e of events) {
          if (record.phase === "Planning") return;
          const before = record;
          [record, w] = step(record, w, e);
          check(before, record);
          look();
        }
        w = { ...w, activated: true };
        for (let looks = 0; !isTerminal(record) && record.phase !== "Planning"; looks++) {
          expect(looks, "looks until the end").toBeLessThan(300);
          if (endsWell) [record, w] = everythingWorks(record, w);
          const nextMs = look();
          if (!isTerminal(record)) w = { ...w, nowMs: Math.max(w.nowMs, nextMs ?? Number.POSITIVE_INFINITY) };
          if (!isTerminal(record)) expect(w.nowMs).not.toBe(Number.POSITIVE_INFINITY);
        }
        const idleMs = w.nowMs - events.reduce((sum, e) => sum + (e.at === "clock" ? e.ms : 0), T0);
        expect(idleMs).toBeLessThanOrEqual(LONGEST_MS);
        if (record.phase === "Succeeded") published += 1;
        expect(decodeRecord(encodeRecord(record))).toEqual(record);
      }),
      { numRuns: 400 },
    );
    // Else nothing was tested of the way to the end.
    expect(published).toBeGreaterThan(5);
  },
);

function check(before: RoundRecord, after: RoundRecord): void {
  if (isTerminal(before)) expect(after).toEqual(before);
  after.secure?.cohorts.forEach((cohort, number) => {
    checkCohort(before.secure!.cohorts[number]!, cohort);
  });
  if (after.phase === "Publishing" || after.phase === "Succeeded") checkCandidate(after);
  for (const p of after.participants) {
    const was = before.participants.find((q) => q.name === p.name)!;
    if (["Refused", "Excluded", "Lost", "Failed"].includes(was.state)) expect(p).toEqual(was);
    if (was.state === "Contributed") expect(["Contributed", "Excluded"]).toContain(p.state);
    expect(p.message.length).toBeLessThanOrEqual(256);
  }
}

function checkCohort(was: Cohort, is: Cohort): void {
  expect(COHORT_STEPS.indexOf(is.step)).toBeGreaterThanOrEqual(COHORT_STEPS.indexOf(was.step));
  const sets = [is.members, is.u1, is.u2, is.u3, is.signers];
  for (const [i, set] of sets.entries()) {
    if (!set) continue;
    expect(set.length).toBeGreaterThanOrEqual(is.threshold);
    expect(new Set(set).size).toBe(set.length);
    if (i > 0) expect(sets[i - 1]).toEqual(expect.arrayContaining([...set]));
  }
  for (const set of ["u1", "u2", "u3", "signers"] as const) if (was[set]) expect(is[set]).toEqual(was[set]);
  if (was.failure) expect(is.step).toBe(was.step);
}

/** A candidate is of exactly the U3 of the cohorts that count. */
function checkCandidate(record: RoundRecord): void {
  const counting = record.secure!.cohorts.filter(({ failure }) => !failure);
  for (const cohort of counting) {
    expect(cohort.step).toBe("complete");
    expect(cohort.answered.length).toBeGreaterThanOrEqual(cohort.threshold);
  }
  const contributors = record.participants.filter(({ state }) => state === "Contributed").map((p) => p.name);
  expect(contributors.sort()).toEqual(counting.flatMap(({ u3 }) => u3!).sort());
  expect(record.candidate!.contributors).toBe(contributors.length);
  expect(contributors.length).toBeGreaterThanOrEqual(record.plan!.minimum);
}
