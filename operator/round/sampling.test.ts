import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Plan, PlanSample } from "./plan.ts";
import { invitedBy, MOST_CANDIDATES, planSample, sampleComplaint, sampleOf } from "./sampling.ts";

const base64 = (byte: number) => Buffer.alloc(32, byte).toString("base64");
const SEED = base64(1);
const NAMES = Array.from({ length: 20 }, (_, i) => `clinic-${String(i + 1).padStart(2, "0")}`);

describe("a sample", () => {
  test("is what HMAC-SHA256 of the names gives, so that others can draw it again", () => {
    // python3: sorted(sorted(names, key=lambda n: hmac.new(b"\x01" * 32, n.encode(), "sha256").digest())[:4])
    expect(sampleOf(SEED, NAMES, 4)).toEqual(["clinic-05", "clinic-09", "clinic-14", "clinic-19"]);
  });

  test("does not depend on the order of the candidates, and another seed gives another one", () => {
    expect(sampleOf(SEED, NAMES.toReversed(), 6)).toEqual(sampleOf(SEED, NAMES, 6));
    expect(sampleOf(base64(2), NAMES, 6)).not.toEqual(sampleOf(SEED, NAMES, 6));
  });

  test("has as many as are asked for, or all, each once and ascending; one more only adds", () => {
    const property = fc.property(fc.nat(40), fc.nat(255), fc.integer({ min: 0, max: 20 }), (count, seed, size) => {
      const names = NAMES.slice(0, size);
      const drawn = sampleOf(base64(seed), names, count);
      expect(drawn).toHaveLength(Math.min(count, size));
      expect(drawn).toEqual([...new Set(drawn)].sort());
      expect(sampleOf(base64(seed), names, count + 1)).toEqual(expect.arrayContaining(drawn));
    });
    fc.assert(property, { numRuns: 200 });
  });

  test("takes everybody equally often", () => {
    // 5 of 20 in 2000 draws: 500 each expected, and five standard deviations are 97.
    const times = new Map<string, number>();
    for (let i = 0; i < 2000; i++) {
      const seed = Buffer.from(i.toString().padStart(32, "0")).toString("base64");
      for (const name of sampleOf(seed, NAMES, 5)) times.set(name, (times.get(name) ?? 0) + 1);
    }
    for (const name of NAMES) expect(Math.abs(times.get(name)! - 500)).toBeLessThan(97);
  });
});

describe("a plan's sample", () => {
  const sites = (connected: readonly string[]) => ({ invitable: NAMES, connected: new Set(connected) });

  test("is drawn among those who are connected, where they are enough", () => {
    const sample = planSample({ count: 4, overselect: 2 }, SEED, sites(NAMES.slice(0, 6)));
    expect(sample).toEqual({ seed: SEED, count: 4, overselect: 2, candidates: NAMES.slice(0, 6) });
    expect(invitedBy(sample)).toHaveLength(6);
  });

  test("is drawn among all where they are not: whoever is away may come in time", () => {
    expect(planSample({ count: 4, overselect: 2 }, SEED, sites(NAMES.slice(0, 5))).candidates).toEqual(NAMES);
  });

  test.each([
    { fraction: "0.5", count: 10 },
    { fraction: "0.51", count: 11 },
    { fraction: "0.35", count: 7 },
    { fraction: "1", count: 20 },
  ])("of $fraction of twenty wants $count, whoever is connected", ({ fraction, count }) => {
    expect(planSample({ fraction }, SEED, sites(NAMES.slice(0, 12)))).toMatchObject({ count, overselect: 0 });
  });

  test("never has somebody who cannot be invited", () => {
    expect(planSample({ count: 1 }, SEED, sites(["mallory", "clinic-01"])).candidates).toEqual(["clinic-01"]);
  });

  test("of more candidates than a plan can hold says what to do", () => {
    const many = Array.from({ length: MOST_CANDIDATES + 1 }, (_, i) => `p-${i}`);
    const drawing = () => planSample({ count: 3 }, SEED, { invitable: many, connected: new Set() });
    expect(drawing).toThrow(/1025 Participants match.*narrow the selector/);
  });
});

describe("an agent that is shown a roster", () => {
  const sample: PlanSample = { seed: SEED, count: 4, overselect: 1, candidates: NAMES };
  const of = (names: readonly string[], change: Partial<PlanSample> = {}) =>
    sampleComplaint({
      sample: { ...sample, ...change },
      roster: names.map((participant) => ({ participant, identity: "" })),
    } as Pick<Plan, "sample" | "roster">);
  const drawn = invitedBy(sample);

  test("takes the sample, and what is left of it in a later attempt or after a draw of cohorts", () => {
    expect(of(drawn)).toBeUndefined();
    expect(of(drawn.slice(1))).toBeUndefined();
    expect(sampleComplaint({ roster: [] })).toBeUndefined();
  });

  test.each([
    { says: "somebody who was not drawn", names: [...drawn, NAMES.find((name) => !drawn.includes(name))!] },
    { says: "somebody who was no candidate", names: [...drawn, "mallory"] },
  ])("refuses $says", ({ names }) => {
    expect(of(names)).toMatch(/is on the plan's roster and not in the sample that its seed draws/);
  });

  test("refuses candidates that stand there twice or in no order", () => {
    expect(of(drawn, { candidates: [NAMES[0]!, ...NAMES] })).toMatch(/not ascending, each once/);
    expect(of(drawn, { candidates: NAMES.toReversed() })).toMatch(/not ascending, each once/);
  });
});
