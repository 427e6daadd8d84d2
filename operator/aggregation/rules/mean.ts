/**
 * The weighted mean as a running sum: sum += weight · delta, chunk by chunk as contributions stream in.
 * Float64: weights are integers up to 255 and deltas float32, so a product is exact in float64 and the sum of a
 *   thousand of them keeps 19 bits more than the float32 result shows; the order in which sites arrive leaves no trace there.
 * Does not: check values. The caller counts non-finite ones before it adds (delta.ts), because a sum cannot be un-added.
 */

/**
 * sum[at + i] += weight · values[i].
 * @param sum     float64, one element per value of the adapter, tensors in the plan's order
 * @param at      where the chunk begins in `sum`
 * @param weight  1…255
 */
export function addWeighted(sum: Float64Array, at: number, values: Float32Array, weight: number): void {
  if (at < 0 || at + values.length > sum.length) {
    throw new RangeError(`values ${at}…${at + values.length} lie outside of a sum of ${sum.length}`);
  }
  for (let i = 0, j = at; i < values.length; i++, j++) sum[j] = sum[j]! + weight * values[i]!;
}
