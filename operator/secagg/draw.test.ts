/** Who is in which cohort: fixed values, fair splits, and every way in which a plan's draw can be wrong. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Plan } from "../round/plan.ts";
import { hex, lengthPrefixed, sha256, u32, u64, utf8 } from "./bytes.ts";
import {
  cohortsOf,
  commitmentBytes,
  commitmentToNonce,
  type Draw,
  drawComplaint,
  drawSeed,
  isCommitment,
  withoutOthers,
} from "./draw.ts";
import { seededRandom, signAs, testCohort } from "./testing/cohort.ts";

const draw: Draw = { federation: "example.org/rondo/clinic-notes", round: 9, number: 1 };
const h = (text: string) => sha256(utf8(text));
const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString("base64");

// Seven participants in cohorts of at most three: three cohorts.
const COHORT_SIZE = 3;
const { members } = testCohort(7).terms;
const roster = members.map(({ participant }) => participant);
const identityOf = (participant: string) => members.find((member) => member.participant === participant)!.identity;
const nonces = roster.map((participant) => ({ participant, nonce: h(`nonce of ${participant}`) }));
const OWN = roster[1]!;
type Nonces = NonNullable<NonNullable<Plan["secure"]>["draw"]>["nonces"];
const SHOWN = nonces.map(({ participant, nonce }) => ({ participant, commitment: commitmentToNonce(nonce) }));

describe("the seed", () => {
  test("is the specification's hash", () => {
    const hashed = Buffer.concat([
      utf8("rondo/secagg/v1/cohort-seed"),
      lengthPrefixed(draw.federation),
      u64(9),
      u32(1),
      ...nonces.flatMap(({ participant, nonce }) => [lengthPrefixed(participant), nonce]),
    ]);
    expect(hex(drawSeed(draw, nonces))).toBe(hex(sha256(hashed)));
  });

  test("does not depend on the order in which nonces came", () => {
    expect(drawSeed(draw, nonces.toReversed())).toEqual(drawSeed(draw, nonces));
  });

  test.each([
    { says: "another round", seed: drawSeed({ ...draw, round: 10 }, nonces) },
    { says: "another draw", seed: drawSeed({ ...draw, number: 2 }, nonces) },
    { says: "another federation", seed: drawSeed({ ...draw, federation: "example.org/rondo/other" }, nonces) },
    { says: "one nonce changed", seed: drawSeed(draw, [{ ...nonces[0]!, nonce: h("changed") }, ...nonces.slice(1)]) },
    { says: "one participant less", seed: drawSeed(draw, nonces.slice(1)) },
  ])("is another with $says", ({ seed }) => expect(seed).not.toEqual(drawSeed(draw, nonces)));
});

describe("the split", () => {
  test("puts everybody in one cohort, evenly, each ascending", () => {
    const split = fc.property(
      fc.integer({ min: 1, max: 256 }),
      fc.integer({ min: 3, max: 128 }),
      fc.nat(),
      (count, size, seed) => {
        const names = Array.from({ length: count }, (_, at) => `p-${at}`);
        const cohorts = cohortsOf(seededRandom(`${seed}`)(32), names, size);
        const sizes = cohorts.map(({ length }) => length);
        expect(cohorts.length).toBe(Math.ceil(count / size));
        expect(Math.max(...sizes)).toBeLessThanOrEqual(size);
        expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
        expect(cohorts.flat().sort()).toEqual([...names].sort());
        for (const cohort of cohorts) expect(cohort).toEqual([...cohort].sort());
      },
    );
    fc.assert(split, { numRuns: 100 });
  });

  test("does not depend on the order of the members", () => {
    const seed = drawSeed(draw, nonces);
    expect(cohortsOf(seed, roster.toReversed(), COHORT_SIZE)).toEqual(cohortsOf(seed, roster, COHORT_SIZE));
  });

  test("puts two participants together as often as chance does", () => {
    // 12 in two cohorts of 6: the chance is 5/11; over 4000 draws four standard deviations are 0.032.
    const names = Array.from({ length: 12 }, (_, at) => `p-${at}`);
    let together = 0;
    for (let at = 0; at < 4000; at++) {
      together += cohortsOf(h(`seed ${at}`), names, 6).filter(
        (cohort) => cohort.includes("p-0") && cohort.includes("p-7"),
      ).length;
    }
    expect(Math.abs(together / 4000 - 5 / 11)).toBeLessThan(0.032);
  });
});

describe("a commitment", () => {
  const commitment = commitmentToNonce(h("nonce"));
  const signature = signAs(2, commitmentBytes(draw, commitment));
  const identity = identityOf(OWN);

  test("holds for its signer, draw and nonce", () => {
    expect(isCommitment(draw, identity, commitment, signature)).toBe(true);
  });

  test.each([
    { says: "another member's key", holds: isCommitment(draw, identityOf(roster[0]!), commitment, signature) },
    { says: "another draw", holds: isCommitment({ ...draw, number: 2 }, identity, commitment, signature) },
    { says: "another round", holds: isCommitment({ ...draw, round: 8 }, identity, commitment, signature) },
    { says: "another nonce", holds: isCommitment(draw, identity, commitmentToNonce(h("another")), signature) },
    { says: "an empty signature", holds: isCommitment(draw, identity, commitment, new Uint8Array()) },
  ])("does not hold for $says", ({ holds }) => expect(holds).toBe(false));
});

describe("a plan's draw", () => {
  const honest = planOf({});
  const own = { participant: OWN, drawOf: (number: number) => (number === 1 ? remembered : undefined) };
  const remembered = { nonce: nonces[1]!.nonce, cohortSize: COHORT_SIZE, shown: SHOWN };

  test("that is what everybody knows itself is taken", () => {
    expect(drawComplaint(honest, identityOf, own)).toBeUndefined();
  });

  test.each<{ says: string; plan: Plan; complaint: RegExp }>([
    {
      says: "cohorts that are swapped",
      plan: planOf({ cohorts: (cohorts) => cohorts.toReversed() }),
      complaint: /not those that the draw gives/,
    },
    {
      says: "two members that have changed places",
      plan: planOf({
        cohorts: ([a, b, ...rest]) => [[...a!.slice(1), b![0]!].sort(), [...b!.slice(1), a![0]!].sort(), ...rest],
      }),
      complaint: /not those that the draw gives/,
    },
    {
      says: "fewer cohorts than the size gives",
      plan: planOf({ cohortSize: 4 }),
      complaint: /not those that the draw gives/,
    },
    {
      says: "a nonce that was not committed to",
      plan: planOf({ nonces: nonceWith(roster[3]!, { nonce: base64(h("chosen later")) }) }),
      complaint: /clinic-004's nonce is not the one/,
    },
    {
      says: "a commitment that is not signed",
      plan: planOf({
        nonces: nonceWith(roster[3]!, {
          commitment: base64(commitmentToNonce(h("forged"))),
          nonce: base64(h("forged")),
        }),
      }),
      complaint: /clinic-004 has not signed/,
    },
    {
      says: "a commitment of an earlier draw",
      plan: planOf({ signedIn: { ...draw, round: 8 } }),
      complaint: /has not signed/,
    },
    {
      says: "another nonce of the reader",
      plan: planOf({
        nonces: nonceWith(OWN, { nonce: base64(h("forged")), commitment: base64(commitmentToNonce(h("forged"))) }),
      }),
      complaint: /another nonce than this participant's/,
    },
    {
      says: "a member that took no part",
      plan: planOf({ nonces: (list) => list.slice(1) }),
      complaint: /not made among its roster/,
    },
    {
      says: "a commitment made anew, by its owner, when the nonces were known",
      plan: planOf({ nonces: againFor(roster[3]!) }),
      complaint: /other commitments than those/,
    },
    { says: "a draw that the reader does not know", plan: planOf({ number: 2 }), complaint: /took no part in draw 2/ },
  ])("with $says is refused", ({ plan, complaint }) => {
    expect(drawComplaint(plan, identityOf, own)).toMatch(complaint);
  });

  test("is needed as soon as there are two cohorts", () => {
    const { draw: _, ...secure } = honest.secure!;
    expect(drawComplaint({ ...honest, secure }, identityOf, own)).toMatch(/no draw/);
  });

  test("is not needed for one cohort, which is then the roster", () => {
    const { draw: _, ...secure } = honest.secure!;
    const one = (of: string[]) => ({ ...honest, secure: { ...secure, cohorts: [{ members: of, threshold: 5 }] } });
    expect(drawComplaint(one(roster), identityOf, own)).toBeUndefined();
    expect(drawComplaint(one(roster.slice(1)), identityOf, own)).toMatch(/not its roster/);
  });
});

describe("the draw of a later attempt", () => {
  const own = { participant: OWN, drawOf: () => ({ nonce: nonces[1]!.nonce, cohortSize: COHORT_SIZE, shown: SHOWN }) };
  const [gone, alsoGone] = [roster[4]!, roster[6]!];
  const left = roster.filter((name) => name !== gone && name !== alsoGone);
  const identityOfLeft = (name: string) => (left.includes(name) ? identityOf(name) : new Uint8Array());
  const complaintOf = (change: PlanChange) =>
    drawComplaint(planOf({ attempt: 2, left, ...change }), identityOfLeft, own);

  test("is the first one's, and its cohorts are that one's without who has left", () => {
    expect(complaintOf({})).toBeUndefined();
  });

  test("may lose a whole cohort", () => {
    const [lost] = cohortsOf(drawSeed(draw, nonces), roster, COHORT_SIZE).filter((cohort) => !cohort.includes(OWN));
    const others = roster.filter((name) => !lost!.includes(name));
    const plan = planOf({ attempt: 2, left: others });
    expect(plan.secure!.cohorts).toHaveLength(2);
    expect(drawComplaint(plan, identityOf, own)).toBeUndefined();
  });

  test("is no excuse for a first attempt to leave somebody out", () => {
    expect(complaintOf({ attempt: 1 })).toMatch(/not made among its roster/);
  });

  test.each<{ says: string; change: PlanChange; complaint: RegExp }>([
    {
      says: "a new split of those who are left",
      change: { cohorts: () => cohortsOf(drawSeed(draw, nonces), left, COHORT_SIZE) },
      complaint: /not those that the draw gives/,
    },
    {
      says: "a split by the nonces of those who are left",
      change: {
        cohorts: () =>
          cohortsOf(
            drawSeed(
              draw,
              nonces.filter(({ participant }) => left.includes(participant)),
            ),
            left,
            COHORT_SIZE,
          ),
        nonces: (list) => list.filter(({ participant }) => left.includes(participant)),
      },
      complaint: /other commitments than those/,
    },
    {
      says: "two cohorts made one",
      change: { cohorts: ([a, b, ...rest]) => [[...a!, ...b!].sort(), ...rest] },
      complaint: /not those that the draw gives/,
    },
    {
      says: "a cohort that nobody is left of, kept empty",
      change: { cohorts: (cohorts) => [...cohorts, []] },
      complaint: /not those that the draw gives/,
    },
    {
      says: "a member that was not in the draw",
      change: { nonces: (list) => list.filter(({ participant }) => participant !== left[0]) },
      complaint: /was not in its draw: a later attempt only loses members/,
    },
    {
      says: "a nonce counted twice, in place of one that does not suit",
      change: { nonces: (list) => [...list.slice(0, 5), list[4]!, ...list.slice(6)] },
      complaint: /not ascending, each once/,
    },
    {
      says: "a commitment of one that has left, made when the nonces were known",
      change: { nonces: againFor(gone) },
      complaint: /other commitments than those/,
    },
    {
      says: "a nonce of one that has left, other than it committed to",
      change: { nonces: nonceWith(gone, { nonce: base64(h("chosen later")) }) },
      complaint: /clinic-005's nonce is not the one/,
    },
    {
      says: "a commitment that a member has not signed",
      change: { signedIn: { ...draw, round: 8 } },
      complaint: /has not signed/,
    },
    {
      says: "another nonce of the reader",
      change: { nonces: nonceWith(OWN, { nonce: base64(h("x")), commitment: base64(commitmentToNonce(h("x"))) }) },
      complaint: /another nonce than this participant's/,
    },
  ])("with $says is refused", ({ change, complaint }) => {
    expect(complaintOf(change)).toMatch(complaint);
  });
});

const nonceWith = (participant: string, change: Partial<Nonces[number]>) => (list: Nonces) =>
  list.map((entry) => (entry.participant === participant ? { ...entry, ...change } : entry));

/** What one member commits to when it does so again, rightly signed. */
function againFor(participant: string) {
  const nonce = h("chosen later");
  const commitment = commitmentToNonce(nonce);
  const signature = signAs(roster.indexOf(participant) + 1, commitmentBytes(draw, commitment));
  const again = { participant, commitment: base64(commitment), signature: base64(signature), nonce: base64(nonce) };
  return (list: Nonces) => list.map((entry) => (entry.participant === participant ? again : entry));
}

interface PlanChange {
  cohorts?: (cohorts: string[][]) => string[][];
  cohortSize?: number;
  nonces?: (list: Nonces) => Nonces;
  number?: number;
  signedIn?: Draw;
  attempt?: number;
  /** On the plan's roster; the draw stays that of all. */
  left?: string[];
}

/** What of a plan the draw concerns; the rest is not looked at. */
function planOf({
  cohorts = (same) => same,
  cohortSize = COHORT_SIZE,
  nonces: change = (same) => same,
  number = 1,
  signedIn,
  attempt = 1,
  left = roster,
}: PlanChange): Plan {
  const which = { ...draw, number };
  const entries = nonces.map(({ participant, nonce }, at) => {
    const commitment = commitmentToNonce(nonce);
    const signature = signAs(at + 1, commitmentBytes(signedIn ?? which, commitment));
    return { participant, commitment: base64(commitment), signature: base64(signature), nonce: base64(nonce) };
  });
  const split = cohorts(withoutOthers(cohortsOf(drawSeed(which, nonces), roster, cohortSize), left));
  return {
    federation: draw.federation,
    round: draw.round,
    attempt,
    roster: members
      .filter(({ participant }) => left.includes(participant))
      .map(({ participant, identity }) => ({ participant, identity: base64(identity) })),
    secure: {
      ring: "u32",
      largestCohort: 3,
      cohorts: split.map((of) => ({ members: of, threshold: 3 })),
      draw: { number, nonces: change(entries) },
      scales: [],
      metrics: [],
    },
  } as unknown as Plan;
}
