/**
 * Which of many shares of one secret do not lie on the polynomial of the others: Shamir's shares are a Reed–Solomon code, and this is
 * its decoder by syndromes and Berlekamp–Massey (Massey, Shift-register synthesis and BCH decoding, 1969).
 * Holds: with m shares and threshold t up to ⌊(m − t)/2⌋ wrong ones are found, whoever they are; the answer is then the only one.
 * Does not: know the secret; more wrong shares than that may look like others, so that a commitment has the last word.
 */
import { inverse, multiply } from "../field.ts";
import { SHARE_BYTES, type Share } from "../shares.ts";

/**
 * @param shares  with distinct x, at least `threshold`
 * @returns the x of the wrong shares, ascending, none when all fit one polynomial; undefined: more are wrong than can be told
 */
export function wrongShares(shares: readonly Share[], threshold: number): number[] | undefined {
  const mostWrong = Math.floor((shares.length - threshold) / 2);
  const weights = dualWeights(shares.map(({ x }) => x));
  const wrong = new Set<number>();
  // A share is 16 symbols, each of a polynomial of its own; a liar may have changed any of them.
  for (let at = 0; at < SHARE_BYTES; at += 2) {
    const locator = shortestRecurrence(syndromes(shares, at, weights, shares.length - threshold));
    const located = shares.filter(({ x }) => isRoot(locator, inverse(x)));
    if (locator.length - 1 > mostWrong || located.length !== locator.length - 1) return undefined;
    for (const { x } of located) wrong.add(x);
  }
  return wrong.size > shares.length - threshold ? undefined : [...wrong].sort((a, b) => a - b);
}

/** 1 / Π (x_i − x_j) over j ≠ i: with these Σ w_i·P(x_i)·x_i^k = 0 for every P of degree < t and every k < m − t. */
const dualWeights = (xs: readonly number[]): number[] =>
  xs.map((x) => inverse(xs.reduce((product, other) => (other === x ? product : multiply(product, x ^ other)), 1)));

/** What the wrong shares leave of those sums: a sequence whose recurrence has the wrong x as its roots. */
function syndromes(shares: readonly Share[], at: number, weights: readonly number[], count: number): number[] {
  const sums = new Array<number>(count).fill(0);
  shares.forEach(({ x, share }, i) => {
    let term = multiply(weights[i]!, (share[at]! << 8) | share[at + 1]!);
    for (let k = 0; k < count; k++) {
      sums[k]! ^= term;
      term = multiply(term, x);
    }
  });
  return sums;
}

/** Berlekamp–Massey: coefficients Λ, from Λ_0 = 1, of the shortest linear recurrence that gives the sequence. */
function shortestRecurrence(sequence: readonly number[]): number[] {
  let current = [1];
  let before = [1];
  let length = 0;
  let shift = 1;
  let discrepancyBefore = 1;
  for (let k = 0; k < sequence.length; k++) {
    let discrepancy = 0;
    for (let i = 0; i <= length; i++) discrepancy ^= multiply(current[i] ?? 0, sequence[k - i]!);
    if (discrepancy === 0) {
      shift++;
      continue;
    }
    const next = plusShifted(current, before, multiply(discrepancy, inverse(discrepancyBefore)), shift);
    if (2 * length > k) shift++;
    else {
      length = k + 1 - length;
      before = current;
      discrepancyBefore = discrepancy;
      shift = 1;
    }
    current = next;
  }
  return Array.from({ length: length + 1 }, (_, i) => current[i] ?? 0);
}

/** a(z) + factor·z^shift·b(z) */
function plusShifted(a: readonly number[], b: readonly number[], factor: number, shift: number): number[] {
  const sum = [...a];
  b.forEach((coefficient, i) => {
    sum[i + shift] = (sum[i + shift] ?? 0) ^ multiply(factor, coefficient);
  });
  return Array.from(sum, (coefficient) => coefficient ?? 0);
}

const isRoot = (polynomial: readonly number[], z: number): boolean =>
  polynomial.reduceRight((value, coefficient) => multiply(value, z) ^ coefficient, 0) === 0;
