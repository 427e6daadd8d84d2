/** The weight of one contribution (secure-aggregation.md section 5): an integer, so that sums of weights are exact. */

export const FULL_WEIGHT = 255;

/**
 * @param examples    examples trained on, at least 0
 * @param exampleCap  examples that give full weight, at least 1
 * @returns 1…255
 */
export function weightOf(weighting: "examples" | "uniform", examples: number, exampleCap: number): number {
  if (weighting === "uniform") return FULL_WEIGHT;
  return Math.min(Math.max(Math.round((FULL_WEIGHT * examples) / exampleCap), 1), FULL_WEIGHT);
}
