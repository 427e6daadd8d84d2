/**
 * One secret from more shares than it takes, some of them wrong (secure-aggregation.md §3 "Bad shares").
 * Holds: only what the commitment confirms is returned. With few shares to spare every subset is tried, so that one right subset is
 * enough; beyond MOST_SUBSETS of them the secret is still found when not more than half of the spare shares are wrong.
 */
import { sameBytes } from "../bytes.ts";
import { combine, evaluateAt, type Share } from "../shares.ts";
import { wrongShares } from "./wrong-shares.ts";

/**
 * All subsets when one or two can be spared, at any size (C(88, 86) = 3828), and all at all up to 15 members. Bounds what a dealer of
 * nonsense costs: a combination of 86 shares and its check take about 0.2 ms, so that this is a second.
 */
const MOST_SUBSETS = 4096;

export interface Reconstructed {
  value: Uint8Array;
  /** The x of the shares that are not on the secret's polynomial. */
  off: number[];
}

/**
 * @param shares   at least `threshold`, with distinct x; the most trusted first
 * @param isRight  whether a secret is the committed one
 * @returns undefined when no secret is found that is right
 */
export function reconstruct(
  shares: readonly Share[],
  threshold: number,
  isRight: (secret: Uint8Array) => boolean,
): Reconstructed | undefined {
  const off = wrongShares(shares, threshold);
  if (off) {
    const value = combine(shares.filter(({ x }) => !off.includes(x)).slice(0, threshold));
    if (isRight(value)) return { value, off };
    // All of them fit one polynomial, of another secret: every subset gives that one.
    if (off.length === 0) return undefined;
  }
  return searched(shares, threshold, isRight);
}

function searched(
  shares: readonly Share[],
  threshold: number,
  isRight: (secret: Uint8Array) => boolean,
): Reconstructed | undefined {
  let left = MOST_SUBSETS;
  for (const subset of subsetsOf(shares, threshold)) {
    if (left-- === 0) return undefined;
    const value = combine(subset);
    if (isRight(value)) return { value, off: shares.filter((share) => !fits(subset, share)).map(({ x }) => x) };
  }
  return undefined;
}

const fits = (right: readonly Share[], share: Share): boolean => sameBytes(evaluateAt(right, share.x), share.share);

/** Every subset of `size`, those of the first items first. */
function* subsetsOf<T>(items: readonly T[], size: number): Generator<T[]> {
  const chosen = Array.from({ length: size }, (_, at) => at);
  while (true) {
    yield chosen.map((at) => items[at]!);
    // The last place that can still move up takes all behind it along.
    let place = size - 1;
    while (place >= 0 && chosen[place] === items.length - size + place) place--;
    if (place < 0) return;
    const from = chosen[place]! + 1;
    for (let at = place; at < size; at++) chosen[at] = from + at - place;
  }
}
