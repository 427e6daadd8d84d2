/**
 * How many members of a cohort it takes to open a sum (secure-aggregation.md §4).
 */

/** A cohort of fewer cannot hide a member from the others. */
export const SMALLEST_COHORT = 3;
/** Limbs of metrics do not carry up to here (§5), and every list of members is bounded by it. */
export const LARGEST_COHORT = 128;

/**
 * t = ⌊2n/3⌋ + 1.
 * @param cohortSize  n of the signed plan, never |U1|: else a coordinator with three colluders offers U1 = {victim, one more, colluders}
 *                    and t follows it down
 */
export function thresholdOf(cohortSize: number): number {
  if (!Number.isInteger(cohortSize) || cohortSize < SMALLEST_COHORT || cohortSize > LARGEST_COHORT) {
    throw new RangeError(`a cohort has ${SMALLEST_COHORT} to ${LARGEST_COHORT} members, not ${cohortSize}`);
  }
  return Math.floor((2 * cohortSize) / 3) + 1;
}
