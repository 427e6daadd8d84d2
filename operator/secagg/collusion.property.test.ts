/**
 * A coordinator with accomplices in the cohort, against the rest of it (secure-aggregation.md §4): it may tell every honest member another U2
 * and U3, and its accomplices sign whatever helps. Up to the stated number of accomplices no sum over fewer than t − c honest members is opened;
 * with one more the known attack works, which shows that this harness would see it.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { requestFor } from "./coordinator/cohort.ts";
import type { CoordinatorMessage, IndexedSignature, SignedInput } from "./messages.ts";
import type { ParticipantState } from "./participant/state.ts";
import { ELEMENTS, type TestCohort, testCohort } from "./testing/cohort.ts";
import { react, runTo } from "./testing/conduct.ts";
import { sharesWith, signatureOf } from "./testing/lies.ts";
import { rootOf } from "./testing/vectors.ts";
import { inputBody, t2 } from "./transcript.ts";

// n = 5, t = 4: two accomplices are tolerated, and then a sum has at least two honest members. It is the smallest cohort in which
// {victim, one more, accomplices} reach t, as the attack on a U2 that is only compared as a subset needs (§3).
const five = testCohort(5);

/** What one honest member is told, step by step. */
interface Told {
  u2: readonly number[];
  /** Told again in M3; an honest member takes only the same one. */
  u2Later: readonly number[];
  u3: readonly number[];
}

const someMembers = fc.subarray(everybodyIn(five), { minLength: five.terms.threshold });
const told = fc.oneof(
  fc.record({ u2: someMembers, u2Later: someMembers, u3: someMembers }),
  fc.record({ u2: someMembers, u3: someMembers }).map(({ u2, u3 }) => ({ u2, u2Later: u2, u3 })),
  someMembers.map((u3) => ({ u2: everybodyIn(five), u2Later: everybodyIn(five), u3 })),
);
/** Two or three stories, and which member hears which. */
const plot = fc
  .array(told, { minLength: 2, maxLength: 3 })
  .chain((stories) => fc.array(fc.constantFrom(...stories), { minLength: 5, maxLength: 5 }));

/** Each takes 2 s of one core; neither must fail because the machine is busy. */
const PATIENCE = { timeout: 120_000 };

test("no story told to honest members opens a sum over fewer than t − c of them", PATIENCE, () => {
  const holds = fc.property(plot, fc.integer({ min: 0, max: 2 }), (stories, accomplices) => {
    const opened = sumsOpened(five, stories, accomplices);
    expect(opened.filter((sum) => sum.length < five.terms.threshold - accomplices)).toEqual([]);
  });
  fc.assert(holds, { numRuns: 100 });
});

/**
 * The attack of §3 "Why U2 must be equal" and its kin, exhaustively: one member may be hidden in List2, another among the inputs, and each of
 * the three honest members is told the whole of either list or the list without it.
 */
test(
  "no member hidden from some, in the shares or among the inputs, opens a sum over fewer than t − c",
  PATIENCE,
  () => {
    const all = everybodyIn(five);
    const honest = [1, 2, 3];
    const wrong: string[] = [];
    for (const hiddenInShares of honest) {
      for (const hiddenInInputs of honest) {
        const u2s = [all, all.filter((index) => index !== hiddenInShares)];
        const u3s = [all, all.filter((index) => index !== hiddenInInputs)];
        for (const stories of tuplesOf(
          u2s.flatMap((u2) => u3s.map((u3): Told => ({ u2, u2Later: all, u3 }))),
          honest.length,
        )) {
          const small = sumsOpened(five, stories, 2).filter((sum) => sum.length < five.terms.threshold - 2);
          if (small.length > 0) wrong.push(JSON.stringify({ stories, small }));
        }
      }
    }
    expect(wrong).toEqual([]);
  },
);

test("an honest coordinator opens the sum of all, and nothing else", () => {
  const all = everybodyIn(five);
  const story: Told = { u2: all, u2Later: all, u3: all };
  expect(sumsOpened(five, Array(5).fill(story), 0)).toEqual([all]);
});

test("one accomplice too many: told alive to one half and dropped to the other, a member is opened alone", () => {
  // n = 7, t = 5: two are tolerated.
  const seven = testCohort(7);
  const all = everybodyIn(seven);
  const alive: Told = { u2: all, u2Later: all, u3: all };
  const dropped: Told = { ...alive, u3: all.slice(1) };
  const stories = [alive, alive, dropped, dropped, alive, alive, alive];
  expect(sumsOpened(seven, stories, 3)).toContainEqual([1]);
  expect(sumsOpened(seven, stories, 2)).toEqual([[1, 2, 3, 4, 5]]);
});

/**
 * Plays a story to each honest member and counts what the coalition then knows.
 * @param accomplices  how many, the last of the cohort
 * @returns every set of honest members the sum of whose inputs the coalition can compute
 */
function sumsOpened(cohort: TestCohort, stories: readonly Told[], accomplices: number): number[][] {
  const everybody = everybodyIn(cohort);
  const honest = everybody.slice(0, everybody.length - accomplices);
  const asked = runTo(cohort, "mask");
  const t1 = (asked.state as { t1: Uint8Array } & typeof asked.state).t1;
  const storyOf = (index: number) => stories[index - 1]!;

  const masked = new Map(honest.map((index) => [index, maskedFor(cohort, index, storyOf(index).u2)]));

  const inputs = everybody.map((index) => inputOf(cohort, index, masked.get(index), t1));
  const signed = new Map<number, ParticipantState>();
  for (const index of honest) {
    const { u2Later, u3 } = storyOf(index);
    const value = { u2: [...u2Later], inputs: inputs.filter((input) => u3.includes(input.index)) };
    signed.set(index, react(cohort, index, masked.get(index)!, { $case: "consistency", value }).next);
  }

  const known = new Knowledge(cohort.terms.threshold - accomplices);
  for (const index of honest) {
    const state = signed.get(index)!;
    if (state.kind !== "Signed") continue;
    const { u2Later, u3 } = storyOf(index);
    const own = t2(
      t1,
      u2Later,
      inputs.filter((input) => u3.includes(input.index)),
    );
    const signatures = u3.flatMap((of): IndexedSignature[] => {
      if (!honest.includes(of)) return [{ index: of, signature: signatureOf(of, "t2", own) }];
      const other = signed.get(of)!;
      return other.kind === "Signed" && same(other.t2, own) ? [{ index: of, signature: other.message.signature }] : [];
    });
    const request: CoordinatorMessage = { $case: "unmask", value: { signatures } };
    const { next } = react(cohort, index, state, request);
    if (next.kind === "Released") known.learn(next.message.shares.map(({ index: of, share }) => [of, share!.$case]));
  }
  const u2Of = (index: number) => (masked.get(index)!.kind === "Masked" ? storyOf(index).u2 : undefined);
  return subsetsOf(honest).filter((sum) => sum.length > 0 && known.opens(sum, honest, u2Of));
}

const maskedStates = new Map<string, ParticipantState>();

/** Where a member stands after a List2 of these members; kept, for many stories begin alike. */
function maskedFor(cohort: TestCohort, index: number, u2: readonly number[]): ParticipantState {
  const key = `${cohort.terms.members.length}/${index}/${u2}`;
  const asked = runTo(cohort, "mask");
  const list = () =>
    sharesWith(requestFor(cohort.terms, asked.state, index)!, ({ acks, shares }) => ({
      acks: acks.filter((entry) => u2.includes(entry.index)),
      shares: shares.filter((entry) => u2.includes(entry.index)),
    }));
  const state = maskedStates.get(key) ?? react(cohort, index, asked.participants.get(index)!, list()).next;
  maskedStates.set(key, state);
  return state;
}

/** Whose secrets the coalition can reconstruct: it holds the shares that were dealt to its own members, of both kinds. */
class Knowledge {
  readonly #selfShares = new Map<number, number>();
  readonly #pairShares = new Map<number, number>();
  readonly #missing: number;

  /** @param missing  how many honest members' shares it takes beside those of the accomplices */
  constructor(missing: number) {
    this.#missing = missing;
  }

  learn(shares: [number, "selfShare" | "pairShare"][]): void {
    for (const [of, kind] of shares) {
      const counts = kind === "selfShare" ? this.#selfShares : this.#pairShares;
      counts.set(of, (counts.get(of) ?? 0) + 1);
    }
  }

  /** Whether every mask in the sum of these members' vectors is known, or cancels within it. */
  opens(
    sum: readonly number[],
    honest: readonly number[],
    u2Of: (index: number) => readonly number[] | undefined,
  ): boolean {
    return sum.every((v) => {
      const maskedFor = u2Of(v);
      if (!maskedFor || !this.#knows(this.#selfShares, v)) return false;
      return honest
        .filter((w) => w !== v && maskedFor.includes(w))
        .every((w) => {
          const isKnown = this.#knows(this.#pairShares, v) || this.#knows(this.#pairShares, w);
          return isKnown || (sum.includes(w) && u2Of(w)?.includes(v));
        });
    });
  }

  #knows(counts: ReadonlyMap<number, number>, of: number): boolean {
    return (counts.get(of) ?? 0) >= this.#missing;
  }
}

/** What is shown as a member's input: its own, or for accomplices and those who have aborted something that an accomplice could sign. */
function inputOf(cohort: TestCohort, index: number, state: ParticipantState | undefined, t1: Uint8Array): SignedInput {
  if (state?.kind === "Masked") return { index, root: state.input.root, signature: state.input.signature };
  const root = rootOf(new Uint32Array(ELEMENTS));
  return { index, root, signature: signatureOf(index, "input", inputBody(t1, root, cohort.terms.byteLength)) };
}

function everybodyIn(cohort: TestCohort): number[] {
  return cohort.terms.members.map((_, at) => at + 1);
}

const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

const subsetsOf = (items: readonly number[]): number[][] =>
  Array.from({ length: 2 ** items.length }, (_, mask) => items.filter((_, at) => (mask >> at) & 1));

const tuplesOf = <T>(items: readonly T[], length: number): T[][] =>
  length === 0 ? [[]] : tuplesOf(items, length - 1).flatMap((tuple) => items.map((item) => [...tuple, item]));
