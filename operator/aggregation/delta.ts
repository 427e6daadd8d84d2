/**
 * Delta = trained − parent in float32, and the checks a contribution must pass: names, shapes, finite.
 * Holds: functions work on chunks, so that neither side ever holds more than one; a fault names the tensor.
 * Does not: read files or widen types (publish/safetensors.ts gives float32), nor clip (clip.ts).
 */
import { countNonFinite } from "./finite.ts";

/** A row of the plan's tensor table. */
export interface TableTensor {
  name: string;
  shape: readonly number[];
}

export type DeltaFault =
  | { code: "TensorMissing"; tensor: string }
  | { code: "TensorUnexpected"; tensor: string }
  | { code: "ShapeDiffers"; tensor: string; shape: number[]; expected: number[] }
  | { code: "NonFinite"; tensor: string; count: number };

/**
 * Whether a file holds exactly the table's tensors in its shapes; the order may differ.
 * @returns the first fault in the table's order, then an unexpected tensor; undefined: none
 */
export function checkTensors(table: readonly TableTensor[], held: readonly TableTensor[]): DeltaFault | undefined {
  const shapes = new Map(held.map(({ name, shape }) => [name, shape]));
  for (const { name, shape: expected } of table) {
    const shape = shapes.get(name);
    if (shape === undefined) return { code: "TensorMissing", tensor: name };
    if (!sameShape(shape, expected)) {
      return { code: "ShapeDiffers", tensor: name, shape: [...shape], expected: [...expected] };
    }
  }
  if (held.length === table.length) return undefined;
  const known = new Set(table.map(({ name }) => name));
  const extra = held.find(({ name }) => !known.has(name));
  return extra && { code: "TensorUnexpected", tensor: extra.name };
}

/**
 * out[i] = trained[i] − parent[i], rounded to float32.
 * @param out  may be `trained` or `parent` itself
 * @returns how many results are not finite: NaN or infinite in either file, or an overflow of the difference
 */
export function subtract(trained: Float32Array, parent: Float32Array, out: Float32Array): number {
  if (trained.length !== parent.length || trained.length !== out.length) {
    throw new RangeError(`lengths differ: ${trained.length}, ${parent.length}, ${out.length}`);
  }
  for (let i = 0; i < out.length; i++) out[i] = trained[i]! - parent[i]!;
  return countNonFinite(out);
}

/** One sentence for status; a person at the site can act on it. */
export function deltaSentence(fault: DeltaFault): string {
  switch (fault.code) {
    case "TensorMissing":
      return `the trained adapter lacks tensor ${fault.tensor}`;
    case "TensorUnexpected":
      return `the trained adapter has a tensor that the plan does not know: ${fault.tensor}`;
    case "ShapeDiffers":
      return `tensor ${fault.tensor} has shape ${fault.shape.join("×")} and the plan says ${fault.expected.join("×")}`;
    case "NonFinite":
      return `delta has ${fault.count} non-finite ${fault.count === 1 ? "value" : "values"} in tensor ${fault.tensor}`;
  }
}

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((side, i) => side === b[i]);
}
