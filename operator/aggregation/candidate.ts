/** The candidate adapter: parent + Σ(weight · delta) / Σ weight, chunk by chunk, rounded once to float32. */
import { countNonFinite } from "./finite.ts";

/**
 * @param parent       a chunk of the parent adapter
 * @param sum          the weighted sum of all deltas, over the whole adapter
 * @param at           where the chunk begins in `sum`
 * @param totalWeight  Σ weight > 0
 * @param out          receives the candidate's values; may be `parent` itself
 * @returns how many results are not finite: an overflow, which ends the round
 */
export function addMean(
  parent: Float32Array,
  { sum, at, totalWeight }: { sum: Float64Array; at: number; totalWeight: number },
  out: Float32Array,
): number {
  if (!(totalWeight > 0)) throw new RangeError(`total weight ${totalWeight} is not above 0`);
  if (parent.length !== out.length || at < 0 || at + parent.length > sum.length) {
    throw new RangeError(`a chunk of ${parent.length} at ${at} does not fit a sum of ${sum.length}`);
  }
  for (let i = 0, j = at; i < out.length; i++, j++) out[i] = parent[i]! + sum[j]! / totalWeight;
  return countNonFinite(out);
}
