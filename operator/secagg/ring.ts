/**
 * Float32 to ring elements and back, value by value: the reference that the kernels are measured by (secure-aggregation.md §5).
 * Holds: rounding goes up or down at random so that the expectation is kept; no honest sum of n_max elements wraps around.
 * Does not: draw random numbers: they are an argument.
 */
import { FULL_WEIGHT } from "../aggregation/weight.ts";
import type { Quantisation } from "./kernels/kernel.ts";
import { RING_BYTES, type Ring, type VectorLayout } from "./vector.ts";

/** A draw is a u32: the probability of rounding up is met to 2^-32. */
export const DRAW_RANGE = 2 ** 32;

/**
 * @param weight  w_u, 1…255
 * @param factor  min(1, clipNorm / ‖x‖₂) over all tensors; 1 for a delta that is clipped already
 */
export function quantisationOf(
  { largest }: Pick<VectorLayout, "largest">,
  { clip, scale }: Pick<VectorLayout["tensors"][number], "clip" | "scale">,
  weight: number,
  factor: number,
): Quantisation {
  return { factor, clip, gain: (weight / FULL_WEIGHT) * scale, largest };
}

/**
 * One value in steps of the ring: v = clip(factor·x, ±C)·gain, then ⌊v⌋ or ⌊v⌋+1, never beyond ±M.
 * @param x     finite
 * @param draw  an integer, uniform in [0, 2^32)
 * @returns an integer; toRing makes the element of it
 */
export function quantiseOne(x: number, draw: number, { factor, clip, gain, largest }: Quantisation): number {
  const v = Math.max(Math.min(x * factor, clip), -clip) * gain;
  const below = Math.floor(v);
  const rounded = below + (draw / DRAW_RANGE < v - below ? 1 : 0);
  // v may pass M by the rounding of C·gain.
  return Math.max(Math.min(rounded, largest), -largest);
}

/** Two's complement: q mod 2^k. */
export function toRing(ring: Ring, q: number): number {
  return ring === "u32" ? q >>> 0 : q & 0xffff;
}

/** The centred lift: the integer in [−2^(k−1), 2^(k−1)) that an element stands for. */
export function fromRing(ring: Ring, element: number): number {
  const half = 2 ** (8 * RING_BYTES[ring] - 1);
  return element < half ? element : element - 2 * half;
}

/**
 * x̄ of one coordinate.
 * @param sum     the lifted sum; over several cohorts their lifted sums added up
 * @param scale   S_t
 * @param weight  W > 0: the sum of the weights of everybody in `sum`
 */
export function meanOf(sum: number, scale: number, weight: number): number {
  return sum / (scale * (weight / FULL_WEIGHT));
}
