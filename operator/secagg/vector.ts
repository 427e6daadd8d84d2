/**
 * What lies where in a vector of the ring, and the numbers beside the tensors: weight and metrics (secure-aggregation.md §5).
 * Holds: layout and scales follow from the plan alone; elements are k/8 bytes, little-endian, without padding.
 * Does not: quantise tensors (ring.ts) or mask (masks.ts).
 */
import { FULL_WEIGHT } from "../aggregation/weight.ts";
import type { Plan, SecurePlan } from "../round/plan.ts";

export type Ring = SecurePlan["ring"];

export const RING_BYTES: Record<Ring, number> = { u32: 4, u16: 2 };

/**
 * What rides beside the weight, in this order: what an operator plans, and all that an agent sends, which never puts out a number whose meaning
 * it does not know. Losses are summed as loss × tokens, so that dividing by the tokens gives the mean over all sites.
 */
export const PLAN_METRICS: SecurePlan["metrics"] = [
  { name: "tokens", scale: 1, perTensor: false },
  { name: "lossTokens", scale: 1024, perTensor: false },
  { name: "saturated", scale: 1, perTensor: true },
  { name: "energy", scale: 2 ** 32, perTensor: true },
];
/** The largest value of a metric after scaling. */
export const METRIC_LIMIT = 2 ** 48 - 1;

/** A key makes at most so many bytes of keystream (secure-aggregation.md §3 "PRG"), and masks one vector. */
export const MOST_VECTOR_BYTES = 2 ** 36;

/** Places are counted in elements from the start of the vector. */
export interface VectorLayout {
  ring: Ring;
  /** In the plan's order; `clip` is C_t, `scale` S_t. */
  tensors: Array<{ name: string; length: number; at: number; clip: number; scale: number }>;
  /** M: no participant's quantised value is beyond ±M. */
  largest: number;
  weightAt: number;
  /** In the plan's order; with `perTensor`, one value after the other, in the order of the tensors. */
  metrics: Array<{ name: string; scale: number; perTensor: boolean; at: number }>;
  elements: number;
  byteLength: number;
}

/** @throws RangeError for a plan without secure aggregation, with other than one scale per tensor, or of a vector that no key may mask */
export function vectorLayout(plan: Plan): VectorLayout {
  const { secure } = plan;
  if (!secure) throw new RangeError("the plan is without secure aggregation");
  if (secure.scales.length !== plan.tensors.length) {
    throw new RangeError(`${secure.scales.length} scales for ${plan.tensors.length} tensors`);
  }
  let at = 0;
  const tensors = plan.tensors.map(({ name, shape }, i) => {
    const length = shape.reduce((product, side) => product * side, 1);
    const { clip, scale } = secure.scales[i]!;
    at += length;
    return { name, length, at: at - length, clip: Number(clip), scale: Number(scale) };
  });
  const weightAt = at;
  at += 1;
  const metrics = secure.metrics.map((metric) => {
    const begins = at;
    at += limbsOf(secure.ring) * (metric.perTensor ? tensors.length : 1);
    return { ...metric, at: begins };
  });
  const byteLength = at * RING_BYTES[secure.ring];
  if (byteLength > MOST_VECTOR_BYTES) throw new RangeError(`a vector of ${byteLength} bytes`);
  return {
    ring: secure.ring,
    tensors,
    largest: largestStep(secure.ring, secure.largestCohort),
    weightAt,
    metrics,
    elements: at,
    byteLength,
  };
}

/** M = ⌊(2^(k−1)−1) / n_max⌋: n_max values of ±M never wrap around. */
export function largestStep(ring: Ring, largestCohort: number): number {
  return Math.floor((2 ** (8 * RING_BYTES[ring] - 1) - 1) / largestCohort);
}

/**
 * The scales of a plan: S_t = M / C_t. Agents compute them again and refuse a plan that says anything else.
 * @param clips  C_t > 0 of each tensor
 * @returns in the same order, as the plan writes them: the shortest decimal that reads back as the same float64
 */
export function planScales(
  ring: Ring,
  largestCohort: number,
  clips: readonly number[],
): Array<{ clip: string; scale: string }> {
  const largest = largestStep(ring, largestCohort);
  return clips.map((clip) => ({ clip: decimal(clip), scale: decimal(largest / clip) }));
}

/** Without the plus sign that JavaScript puts into exponents: a plan's decimals have none. */
function decimal(value: number): string {
  if (!(value > 0) || !Number.isFinite(value)) throw new RangeError(`${value} is no clip or scale`);
  return String(value).replace("e+", "e");
}

/** Elements of one metric: limbs of k−8 bits, so that 128 participants' limbs add up without a carry. */
export function limbsOf(ring: Ring): number {
  return 48 / limbBits(ring);
}

/** One number per name; one per tensor, in the plan's order, for a metric that is per tensor. In the metric's own unit, at least 0. */
export type MetricValues = Record<string, number | readonly number[]>;

/**
 * The elements behind the tensors: w_u, then the metrics.
 * @param weight  1…255
 * @returns from `weightAt` to the end; not yet masked
 * @throws RangeError for a metric that is missing, negative or not finite
 */
export function encodeTail(layout: VectorLayout, weight: number, metrics: MetricValues): Uint8Array {
  if (!Number.isInteger(weight) || weight < 1 || weight > FULL_WEIGHT) throw new RangeError(`weight ${weight}`);
  const { ring, weightAt, elements } = layout;
  const tail = elementsOf(ring, new Uint8Array((elements - weightAt) * RING_BYTES[ring]));
  tail[0] = weight;
  for (const metric of layout.metrics) {
    const values = valuesOf(metric, metrics[metric.name], layout.tensors.length);
    values.forEach((value, i) => {
      putLimbs(ring, tail, metric.at - weightAt + i * limbsOf(ring), scaled(metric, value));
    });
  }
  return new Uint8Array(tail.buffer);
}

/** What the sum of a cohort says besides its tensors; metrics in their own unit, in the plan's order. */
export interface DecodedTail {
  weight: number;
  metrics: Map<string, number>;
  perTensor: Map<string, number[]>;
}

/** @param tail  the sum's bytes from `weightAt` to the end, unmasked */
export function decodeTail(layout: VectorLayout, tail: Uint8Array): DecodedTail {
  const { ring, weightAt, elements } = layout;
  if (tail.length !== (elements - weightAt) * RING_BYTES[ring]) throw new RangeError(`a tail of ${tail.length} bytes`);
  const sums = elementsOf(ring, tail.slice());
  const decoded: DecodedTail = { weight: sums[0]!, metrics: new Map(), perTensor: new Map() };
  for (const { name, scale, perTensor, at } of layout.metrics) {
    const value = (i: number) => takeLimbs(ring, sums, at - weightAt + i * limbsOf(ring)) / scale;
    if (perTensor)
      decoded.perTensor.set(
        name,
        Array.from(layout.tensors, (_, i) => value(i)),
      );
    else decoded.metrics.set(name, value(0));
  }
  return decoded;
}

type Elements = Uint32Array<ArrayBuffer> | Uint16Array<ArrayBuffer>;

/** The ring's elements in these bytes. This machine is little-endian as the vector is: Node runs on no other that we build for. */
function elementsOf(ring: Ring, bytes: Uint8Array<ArrayBuffer>): Elements {
  const Elements = ring === "u32" ? Uint32Array : Uint16Array;
  return new Elements(bytes.buffer, bytes.byteOffset, bytes.length / RING_BYTES[ring]);
}

function limbBits(ring: Ring): number {
  return 8 * RING_BYTES[ring] - 8;
}

function valuesOf(
  { name, perTensor }: VectorLayout["metrics"][number],
  given: number | readonly number[] | undefined,
  tensors: number,
): readonly number[] {
  const values = typeof given === "number" ? [given] : (given ?? []);
  const expected = perTensor ? tensors : 1;
  if (values.length !== expected) throw new RangeError(`metric ${name} has ${values.length} values, not ${expected}`);
  return values;
}

function scaled({ name, scale }: VectorLayout["metrics"][number], value: number): number {
  if (!(value >= 0) || !Number.isFinite(value)) throw new RangeError(`metric ${name} has a value that is no count`);
  return Math.min(Math.round(value * scale), METRIC_LIMIT);
}

/** Least significant first. */
function putLimbs(ring: Ring, elements: Elements, at: number, value: number): void {
  let rest = BigInt(value);
  const bits = BigInt(limbBits(ring));
  for (let limb = 0; limb < limbsOf(ring); limb++) {
    elements[at + limb] = Number(rest & ((1n << bits) - 1n));
    rest >>= bits;
  }
}

/** Of a sum: its limbs are wider than limbBits, and what they make together may pass 2^53. */
function takeLimbs(ring: Ring, elements: Elements, at: number): number {
  const bits = BigInt(limbBits(ring));
  let value = 0n;
  for (let limb = limbsOf(ring) - 1; limb >= 0; limb--) value = (value << bits) + BigInt(elements[at + limb]!);
  return Number(value);
}
