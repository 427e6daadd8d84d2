/**
 * A whole round among agents, in a world where anything may fail at any time, crashes between any two actions included. Whatever happens:
 * it ends by a deadline that can be computed beforehand, and what must hold of it holds all the time (testing/invariants.ts).
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { STORAGE_LIMIT_MS } from "./pending.ts";
import { PLANNING_LIMIT_MS } from "./planning.ts";
import { PUBLISH_GRACE_MS } from "./publishing.ts";
import { isTerminal, type RoundRecord } from "./record.ts";
import { type Event, ending, event, federation, happen, TEN } from "./testing/events.ts";
import { check, checkEnd } from "./testing/invariants.ts";
import type { Setting } from "./testing/planner.ts";
import { Simulation } from "./testing/simulation.ts";
import { TERMS } from "./testing/worlds.ts";

const terms = (minimum: number, retries = 1) => ({ ...TERMS, minimum, retries });

const SETTINGS: Array<{ says: string; setting: Setting; mustSee: Seen[] }> = [
  {
    says: "a trusted round of four",
    setting: { names: TEN.slice(0, 4), terms: terms(2) },
    mustSee: ["Succeeded", "QuorumLost", "Cancelled", "RegistryUnreachable"],
  },
  {
    says: "a trusted round that wants three of five",
    setting: { names: TEN.slice(0, 5), terms: terms(2), enough: 3 },
    mustSee: ["Succeeded", "NotNeeded"],
  },
  {
    says: "a secure round of six with one retry",
    setting: { names: TEN.slice(0, 6), terms: terms(3), cohortSize: 6 },
    mustSee: ["Succeeded", "succeeded after a removal", "succeeded after a failure", "CohortTooSmall"],
  },
  {
    says: "a secure round of six with three retries that wants five",
    setting: { names: TEN.slice(0, 6), terms: terms(3, 3), cohortSize: 6, enough: 5 },
    mustSee: ["Succeeded", "NotNeeded", "succeeded after a removal", "succeeded after a failure"],
  },
  {
    says: "a secure round of ten in two cohorts that are drawn",
    setting: { names: TEN, terms: terms(7), cohortSize: 6 },
    mustSee: ["Succeeded", "succeeded after a removal", "succeeded after a failure"],
  },
  {
    says: "a secure round without retries",
    setting: { names: TEN.slice(0, 5), terms: terms(3, 0), cohortSize: 6 },
    mustSee: ["Succeeded", "succeeded after a removal"],
  },
];

/** What a run has shown: else a property may hold because nothing ever happens. */
type Seen = "Succeeded" | "Cancelled" | "succeeded after a removal" | "succeeded after a failure" | (string & {});

const mostAttempts = ({ names, terms: { minimum, retries } }: Setting) => 1 + retries + (names.length - minimum);

/** From any moment on in which nothing happens any more but time. */
function longestMs(setting: Setting): number {
  const { acceptMs, trainingMs, aggregationMs } = setting.terms;
  const later = mostAttempts(setting) - 1;
  const attempt = PLANNING_LIMIT_MS + Math.min(acceptMs, aggregationMs) + aggregationMs;
  return STORAGE_LIMIT_MS + PLANNING_LIMIT_MS + trainingMs + later * attempt + 3 * aggregationMs + PUBLISH_GRACE_MS;
}

/** Runs that no chance must leave out: two of one cohort are lost before keys are shared, and while they are; one member is late all along. */
function examples({ names, cohortSize = names.length }: Setting): Array<[Event[], null, boolean]> {
  const works: Event = { at: "everybody", but: [] };
  const lost: Event = { at: "fails", names: ["ann", "cy"] };
  // Planned, accepted, training, trained, keys sent; a draw takes three more.
  const untilShared = names.length > cohortSize ? 8 : 5;
  return [
    [[...Array(untilShared - 1).fill(works), lost], null, true],
    [[...Array(untilShared).fill(works), lost], null, true],
    [Array(12).fill({ at: "everybody", but: ["ann"] }), null, true],
  ];
}

// Some seconds on a quiet machine; a busy one must not make it fail.
test.each(SETTINGS)("$says: whatever happens, it ends in time and counts right", { timeout: 120_000 }, (given) => {
  const { setting, mustSee } = given;
  const seen = new Set<string>();
  const runs = fc.property(
    fc.array(event, { minLength: 5, maxLength: 60 }),
    ending,
    fc.boolean(),
    (events, end, works) => {
      const sim = new Simulation(setting);
      const step = (change: () => void) => {
        const before = sim.record;
        change();
        check(before, sim, setting);
      };
      step(() => sim.look());
      for (const [i, e] of events.entries()) {
        if (end?.at === i) sim.change({ [end.how]: true });
        step(() => happen(sim, e));
        step(() => sim.look());
      }
      sim.change({ storage: undefined, earlier: undefined, federation: federation(sim, "ready") } as never);
      if (works) {
        sim.broken.clear();
        for (const agent of sim.agents.values()) agent.isConnected = true;
      }
      const idleSinceMs = sim.nowMs;
      for (let looks = 0; !isTerminal(sim.record); looks++) {
        expect(looks, "looks until the end").toBeLessThan(500);
        for (let i = 0; works && i < 6; i++) {
          step(() => happen(sim, { at: "everybody", but: [] }));
          step(() => sim.look());
        }
        // The operator works either way; without agents only time helps it.
        step(() => sim.work());
        step(() => sim.look());
        if (!isTerminal(sim.record)) sim.pass(Math.max(0, (sim.lookAgainAtMs ?? Number.NaN) - sim.nowMs));
        expect(sim.nowMs, "somebody must say when to look again").not.toBeNaN();
      }
      expect(sim.nowMs - idleSinceMs).toBeLessThanOrEqual(longestMs(setting));
      note(seen, sim.record);
      checkEnd(sim);
    },
  );
  fc.assert(runs, { numRuns: 250, examples: examples(setting) });
  for (const what of mustSee) expect([...seen], `no run has shown ${what}`).toContain(what);
});

function note(seen: Set<string>, { outcome, phase, attempts, participants }: RoundRecord): void {
  seen.add(phase).add(outcome!.reason);
  for (const { reason } of participants) seen.add(reason);
  if (phase === "Succeeded" && attempts?.failed) seen.add("succeeded after a failure");
  if (phase === "Succeeded" && attempts?.removals) seen.add("succeeded after a removal");
}
