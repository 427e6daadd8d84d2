/**
 * Whether an unmasked sum can be one: a mask that was not removed, or one removed twice, leaves uniformly random elements.
 * Holds: what fails here is never published. A member can make its own vector so that this fails, and nobody can tell whose it was.
 */
import { FULL_WEIGHT } from "../../aggregation/weight.ts";
import { SecaggFault } from "../../secagg/faults.ts";
import { limbsOf, RING_BYTES, type VectorLayout } from "../../secagg/vector.ts";

/**
 * @param tail          the sum's elements from the weight to the end
 * @param contributors  |U3|
 * @throws SecaggFault "SumInvalid"
 */
export function checkTail(layout: VectorLayout, tail: Uint32Array | Uint16Array, contributors: number): void {
  const weight = tail[0]!;
  if (weight < contributors || weight > contributors * FULL_WEIGHT)
    throw invalid(`the weight of ${contributors} contributions came out as ${weight}`);
  const most = contributors * (2 ** (8 * RING_BYTES[layout.ring] - 8) - 1);
  for (const { name, perTensor, at } of layout.metrics) {
    const begin = at - layout.weightAt;
    const end = begin + limbsOf(layout.ring) * (perTensor ? layout.tensors.length : 1);
    if (tail.subarray(begin, end).some((limb) => limb > most)) throw invalid(`metric ${name} is larger than it can be`);
  }
}

function invalid(what: string): SecaggFault {
  return new SecaggFault(
    "SumInvalid",
    `the sum is none: ${what}; a member's vector is wrong, or a mask is still in it`,
  );
}
