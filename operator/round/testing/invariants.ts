/**
 * What must hold of a round whatever happens to it, checked after everything that does: what has ended never changes; at most one adapter; nothing
 * is counted twice, or from an attempt that has ended; attempts are bounded and only lose members; whoever is out stays out.
 */
import { expect } from "vitest";
import { decide } from "../decide.ts";
import { OUT } from "../participants.ts";
import { COHORT_STEPS, type Cohort, decodeRecord, encodeRecord, isTerminal, type RoundRecord } from "../record.ts";
import type { Setting } from "./planner.ts";
import type { Simulation } from "./simulation.ts";
import { world } from "./worlds.ts";

export function check(before: RoundRecord, sim: Simulation, setting: Setting): void {
  const { record } = sim;
  if (record === before) return;
  if (isTerminal(before)) expect(record).toEqual(before);
  checkAttempts(before, sim, setting);
  checkContributions(record);
  for (const was of before.participants) {
    const p = record.participants.find((one) => one.name === was.name)!;
    if (p === was) continue;
    if (OUT.includes(was.state)) expect(p).toEqual(was);
    // What had its receipt counts, or says why not; a later attempt asks for it again.
    if (was.state === "Contributed") expect(["Contributed", "Excluded", ...lostBy(before, record)]).toContain(p.state);
    expect(p.message.length).toBeLessThanOrEqual(256);
  }
  for (const [number, cohort] of (record.secure?.cohorts ?? []).entries())
    checkCohort(before.attempt === record.attempt ? before.secure?.cohorts[number] : undefined, cohort);
  if (record.phase === "Publishing" || record.phase === "Succeeded") checkCandidate(record, sim);
  expect(sim.pushed.size).toBeLessThanOrEqual(1);
}

const lostBy = (before: RoundRecord, after: RoundRecord) =>
  after.attempt > before.attempt ? (["Trained", "Lost", "Failed"] as const) : [];

function checkAttempts(before: RoundRecord, sim: Simulation, { names, terms: { minimum, retries } }: Setting): void {
  const { failed, removals } = sim.record.attempts ?? { failed: 0, removals: 0 };
  expect(sim.record.attempt).toBe(1 + failed + removals);
  expect(failed).toBeLessThanOrEqual(retries);
  expect(removals).toBeLessThanOrEqual(names.length - minimum);
  if (sim.record.attempt === before.attempt) return;
  expect([...sim.agents.values()].some(({ hasReleased }) => hasReleased)).toBe(false);
  const kept = sim.record.next!.cohorts;
  const split = before.secure!.cohorts;
  expect(kept.flat().length).toBeLessThan(split.flatMap(({ members }) => members).length);
  expect(kept.flat().length).toBeGreaterThanOrEqual(minimum);
  for (const members of kept) {
    expect(members.length).toBeGreaterThanOrEqual(3);
    expect(split.some((cohort) => members.every((one) => cohort.members.includes(one)))).toBe(true);
  }
}

function checkContributions({ attempt, contributions }: RoundRecord): void {
  const senders = contributions.map(({ participant }) => participant);
  expect(new Set(senders).size).toBe(senders.length);
  for (const { root } of contributions) expect(root).toMatch(new RegExp(`-${attempt}$`));
}

function checkCohort(was: Cohort | undefined, cohort: Cohort): void {
  if (was === cohort) return;
  const sets = [cohort.members, cohort.u1, cohort.u2, cohort.u3, cohort.signers];
  for (const [i, set] of sets.entries()) {
    if (!set) continue;
    expect(set.length).toBeGreaterThanOrEqual(cohort.threshold);
    expect(new Set(set).size).toBe(set.length);
    if (i > 0) expect(sets[i - 1]).toEqual(expect.arrayContaining([...set]));
  }
  if (!was) return;
  expect(COHORT_STEPS.indexOf(cohort.step)).toBeGreaterThanOrEqual(COHORT_STEPS.indexOf(was.step));
  for (const set of ["u1", "u2", "u3", "signers"] as const) if (was[set]) expect(cohort[set]).toEqual(was[set]);
  if (was.failure) expect(cohort.step).toBe(was.step);
}

/** A candidate is of everybody who counts: in a secure round of exactly the U3 of the cohorts that do. */
function checkCandidate(record: RoundRecord, { pushed }: Simulation): void {
  const names = record.participants.filter(({ state }) => state === "Contributed").map((p) => p.name);
  expect(record.candidate!.contributors).toBe(names.length);
  expect(names.length).toBeGreaterThanOrEqual(record.plan!.minimum);
  const made = record.contributions.filter(({ participant }) => names.includes(participant)).map(({ root }) => root);
  expect(record.candidate!.digest.split(" ").sort()).toEqual([...made].sort());
  for (const digest of pushed) expect(digest).toBe(record.candidate!.digest);
  if (!record.secure) return;
  const counting = record.secure.cohorts.filter(({ failure }) => !failure);
  expect(names.sort()).toEqual(counting.flatMap(({ u3 }) => u3!).sort());
  for (const cohort of counting) {
    expect(cohort.step).toBe("complete");
    expect(cohort.answered.length).toBeGreaterThanOrEqual(cohort.threshold);
  }
}

export function checkEnd(sim: Simulation): void {
  const { record } = sim;
  expect(record.outcome!.message).toBeTruthy();
  expect(record.phase === "Succeeded").toBe(record.published !== undefined);
  if (record.phase === "Succeeded") expect(sim.pushed.size).toBe(1);
  expect(decodeRecord(encodeRecord(record))).toEqual(record);
  const later = decide(record, world({ nowMs: sim.nowMs + 1e9, deleting: true, cancelled: true }));
  expect(later).toEqual({ record, actions: [{ do: "cleanUp" }] });
}
