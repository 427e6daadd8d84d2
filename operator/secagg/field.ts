/**
 * GF(2^16) with the primitive polynomial 0x1100B (secure-aggregation.md §3 "Shamir"). Addition and subtraction are XOR.
 * Does not: hide from a neighbour on the same CPU which table entries it reads.
 */

/** Of the multiplicative group. */
export const ORDER = 2 ** 16 - 1;
const POLYNOMIAL = 0x1100b;

/** EXP[LOG[a] + LOG[b]] = a·b for a, b ≠ 0: EXP goes round twice, so that no sum of logarithms has to be reduced. */
export const EXP = new Uint16Array(2 * ORDER);
export const LOG = new Uint16Array(ORDER + 1);
for (let power = 0, value = 1; power < ORDER; power++) {
  EXP[power] = value;
  EXP[power + ORDER] = value;
  LOG[value] = power;
  value <<= 1; // x generates the field: the polynomial is primitive
  if (value > ORDER) value ^= POLYNOMIAL;
}

export const multiply = (a: number, b: number): number => (a === 0 || b === 0 ? 0 : EXP[LOG[a]! + LOG[b]!]!);

/** @param a  not 0 */
export const inverse = (a: number): number => EXP[ORDER - LOG[a]!]!;
