/**
 * L2 clipping of a delta over all of its tensors: x ← x · min(1, clipNorm / ‖x‖₂) (secure-aggregation.md section 5).
 * Two passes over chunks: squaredNorm over all of them, then scale each.
 */

/** Σ x², in float64: 10⁹ values of any finite float32 stay far below its largest. */
export function squaredNorm(values: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]! * values[i]!;
  return sum;
}

/**
 * @param squared   Σ x² over all tensors
 * @param clipNorm  > 0
 * @returns the factor, at most 1; 1 for a delta of zeros
 */
export function clipFactor(squared: number, clipNorm: number): number {
  const norm = Math.sqrt(squared);
  return norm > clipNorm ? clipNorm / norm : 1;
}

/** values[i] ← factor · values[i], rounded to float32. */
export function scale(values: Float32Array, factor: number): void {
  if (factor === 1) return;
  for (let i = 0; i < values.length; i++) values[i] = values[i]! * factor;
}

/** A clipped delta's norm may pass clipNorm by the rounding of its values to float32: 2^-24 each, at most as much for the norm. */
const ROUNDING = 2 ** -22;

/** Whether a delta that should be clipped is; what the coordinator checks in trusted mode. */
export function isClipped(squared: number, clipNorm: number): boolean {
  return Math.sqrt(squared) <= clipNorm * (1 + ROUNDING);
}
