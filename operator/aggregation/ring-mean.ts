/**
 * The candidate of a secure round: parent + Σ / (S_t · ΣW / 255), chunk by chunk, rounded once to float32 (secure-aggregation.md §5).
 * Σ over cohorts in float64: each is below 2^31 in size, so that the sum over any number of cohorts of a plan is exact.
 */
import { countNonFinite } from "./finite.ts";
import { FULL_WEIGHT } from "./weight.ts";

/** Elements of one cohort's unmasked sum. Read as signed they are the centred lift: two's complement is the ring's encoding. */
export type RingElements = Int32Array | Int16Array;

/**
 * @param scale   S_t > 0
 * @param weight  ΣW > 0, over all cohorts
 * @returns what a sum of ring elements is divided by to be the weighted mean
 */
export function meanDivisor(scale: number, weight: number): number {
  const divisor = scale * (weight / FULL_WEIGHT);
  if (!(divisor > 0) || !Number.isFinite(divisor)) throw new RangeError(`scale ${scale}, weight ${weight}`);
  return divisor;
}

/**
 * @param parent   a chunk of the parent adapter
 * @param sums     the same chunk of each cohort's sum
 * @param divisor  meanDivisor of the chunk's tensor
 * @param out      receives the candidate's values; may be `parent` itself
 * @returns how many results are not finite: an overflow, which ends the round
 */
export function addRingMean(
  parent: Float32Array,
  { sums, divisor }: { sums: readonly RingElements[]; divisor: number },
  out: Float32Array,
): number {
  if (sums.length === 0) throw new RangeError("no sum");
  for (const sum of sums)
    if (sum.length !== parent.length || sum.length !== out.length)
      throw new RangeError(`lengths differ: ${parent.length}, ${sum.length}, ${out.length}`);
  const [first, ...more] = sums as [RingElements, ...RingElements[]];
  // One cohort is the usual case, and the loop over cohorts would cost more than the arithmetic.
  if (more.length === 0) for (let i = 0; i < out.length; i++) out[i] = parent[i]! + first[i]! / divisor;
  else
    for (let i = 0; i < out.length; i++) {
      let sum = first[i]!;
      for (const cohort of more) sum += cohort[i]!;
      out[i] = parent[i]! + sum / divisor;
    }
  return countNonFinite(out);
}
