/** Wrong shares among right ones: found, and never taken for right. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { sameBytes, sha256 } from "../bytes.ts";
import { combine, type Share, split } from "../shares.ts";
import { seededRandom } from "../testing/cohort.ts";
import { reconstruct } from "./reconstruct.ts";
import { wrongShares } from "./wrong-shares.ts";

/** Shares of one secret, of which some are wrong, each in its own way. */
interface Dealt {
  secret: Uint8Array;
  threshold: number;
  shares: Share[];
  wrong: number[];
}

function dealt(count: number, threshold: number, wrong: readonly number[], seed: number): Dealt {
  const random = seededRandom(`shares ${seed}`);
  const secret = random(32);
  const xs = Array.from({ length: count }, (_, at) => at + 1);
  const shares = split(secret, threshold, xs, random).map((share) =>
    wrong.includes(share.x) ? { x: share.x, share: spoiled(share.share, random) } : share,
  );
  return { secret, threshold, shares, wrong: [...wrong] };
}

/** One symbol or all of them. */
function spoiled(share: Uint8Array, random: (length: number) => Uint8Array): Uint8Array {
  const [how, where] = random(2);
  if (how! % 2 === 0) return sha256(share);
  const changed = Uint8Array.from(share);
  changed[where! % 32]! ^= 1 + (how! >> 1);
  return changed;
}

const anyDealt = (mostWrong: (spare: number) => number, mostShares: number) =>
  fc
    .record({ count: fc.integer({ min: 3, max: mostShares }), seed: fc.nat() })
    .chain(({ count, seed }) =>
      fc.record({ count: fc.constant(count), seed: fc.constant(seed), threshold: fc.integer({ min: 2, max: count }) }),
    )
    .chain(({ count, seed, threshold }) => {
      const xs = Array.from({ length: count }, (_, at) => at + 1);
      const wrong = fc.subarray(xs, { maxLength: Math.min(mostWrong(count - threshold), count) });
      return wrong.map((some) => dealt(count, threshold, some, seed));
    });

test("up to half of the spare shares may be wrong: they are found", () => {
  const found = fc.property(
    anyDealt((spare) => Math.floor(spare / 2), 40),
    ({ shares, threshold, wrong }) => {
      expect(wrongShares(shares, threshold)).toEqual(wrong);
    },
  );
  fc.assert(found, { numRuns: 200 });
});

test("21 wrong shares of a cohort of 128 are found", () => {
  const wrong = Array.from({ length: 21 }, (_, at) => 6 * at + 1);
  const { shares } = dealt(128, 86, wrong, 1);
  expect(wrongShares(shares, 86)).toEqual(wrong);
});

test("any right shares that are enough give a small cohort's secret, whoever the liars are", () => {
  const found = fc.property(
    anyDealt((spare) => spare, 9),
    ({ secret, shares, threshold }) => {
      const result = reconstruct(shares, threshold, (guess) => sameBytes(guess, secret));
      expect(result?.value).toEqual(secret);
    },
  );
  fc.assert(found, { numRuns: 200 });
});

test("whatever the shares are, no other secret than the committed one comes out", () => {
  const held = fc.property(
    anyDealt((spare) => spare + 3, 9),
    ({ secret, shares, threshold }) => {
      const result = reconstruct(shares, threshold, (guess) => sameBytes(guess, secret));
      expect([undefined, String(secret)]).toContain(result && String(result.value));
    },
  );
  fc.assert(held, { numRuns: 200 });
});

test("one liar and one share to spare: named by trying the subsets", () => {
  const { secret, shares, threshold } = dealt(87, 86, [40], 2);
  expect(wrongShares(shares, threshold)).toBeUndefined();
  expect(reconstruct(shares, threshold, (guess) => sameBytes(guess, secret))).toEqual({ value: secret, off: [40] });
});

test("shares that fit each other, of another secret than the committed one, are given up at once", () => {
  const { shares } = dealt(128, 86, [], 3);
  let tried = 0;
  const never = () => ++tried === 0;
  expect(reconstruct(shares, 86, never)).toBeUndefined();
  expect(tried).toBe(1);
});

test("shares that fit nothing are given up after a bounded search", () => {
  const { shares } = dealt(
    40,
    20,
    Array.from({ length: 40 }, (_, at) => at + 1),
    4,
  );
  let tried = 0;
  const never = () => ++tried === 0;
  expect(reconstruct(shares, 20, never)).toBeUndefined();
  expect(tried).toBe(4096);
});

test("the search tries every subset", () => {
  const { shares } = dealt(6, 3, [1, 2, 3, 4, 5, 6], 5);
  const seen = new Set<string>();
  reconstruct(shares, 3, (guess) => {
    seen.add(String(guess));
    return false;
  });
  const subsets = shares.flatMap((a, i) =>
    shares.slice(i + 1).flatMap((b, j) => shares.slice(i + j + 2).map((c) => [a, b, c])),
  );
  expect(subsets.map((subset) => String(combine(subset))).every((guess) => seen.has(guess))).toBe(true);
});
