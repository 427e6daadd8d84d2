/** How far the mean that comes out of the ring lies from the mean in float64; masks cancel to the bit, so that there are none here. */
import { randomBytes } from "node:crypto";
import { FULL_WEIGHT } from "../../../operator/aggregation/weight.ts";
import { BLOCK_BYTES, PLACES } from "../../../operator/secagg/kernels/kernel.ts";
import { simdKernel } from "../../../operator/secagg/kernels/simd.ts";
import { addToSum } from "../../../operator/secagg/masks.ts";
import { meanOf, quantisationOf } from "../../../operator/secagg/ring.ts";
import { largestStep, RING_BYTES, type Ring } from "../../../operator/secagg/vector.ts";
import { normal } from "./cohort.ts";

const VALUES = 1 << 20;
const RMS = 1e-3;
const CLIP = 6 * RMS;

export interface Accuracy {
  ring: Ring;
  members: number;
  /** Root mean square of the error, as a fraction of the clip and of the deltas' RMS. */
  ofClip: number;
  ofRms: number;
  /** 255·n/W: by how much uneven weights widen the error. */
  factor: number;
}

export function accuracyOf(ring: Ring, weights: readonly number[]): Accuracy {
  const kernel = simdKernel();
  const width = RING_BYTES[ring];
  const largest = largestStep(ring, weights.length);
  const scale = largest / CLIP;
  const sum = new Uint8Array(VALUES * width);
  const exact = new Float64Array(VALUES);
  const perBlock = BLOCK_BYTES / width;
  for (const weight of weights) {
    const delta = normal(VALUES, RMS);
    for (let i = 0; i < VALUES; i++) exact[i]! += weight * Math.max(Math.min(delta[i]!, CLIP), -CLIP);
    const quantisation = quantisationOf({ largest }, { clip: CLIP, scale }, weight, 1);
    for (let at = 0; at < VALUES; at += perBlock) {
      kernel.memory.set(new Uint8Array(delta.buffer, at * 4, perBlock * 4), PLACES.values);
      kernel.memory.set(randomBytes(perBlock * 4), PLACES.draws);
      kernel.quantise(ring, 0, perBlock, quantisation);
      const block = kernel.memory.slice(PLACES.block, PLACES.block + BLOCK_BYTES);
      addToSum(sum, ring, at * width, block, kernel);
    }
  }
  const total = weights.reduce((all, weight) => all + weight, 0);
  const lifted = ring === "u32" ? new Int32Array(sum.buffer) : new Int16Array(sum.buffer);
  let squares = 0;
  for (let i = 0; i < VALUES; i++) squares += (meanOf(lifted[i]!, scale, total) - exact[i]! / total) ** 2;
  const error = Math.sqrt(squares / VALUES);
  const members = weights.length;
  return { ring, members, ofClip: error / CLIP, ofRms: error / RMS, factor: (FULL_WEIGHT * members) / total };
}
