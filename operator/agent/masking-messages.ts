/**
 * What masking.ts and its threads say to each other: tagged unions, faults as plain data.
 * All of it survives structuredClone; the copies of the keys end with their thread.
 */
import type { SecaggCode } from "../secagg/faults.ts";
import type { MaskKey } from "../secagg/masks.ts";
import type { MetricValues, VectorLayout } from "../secagg/vector.ts";

/** float32 in the order of the layout, from byte dataStart of the file on. */
export interface ValueFile {
  path: string;
  dataStart: number;
}

/** workerData: each thread of one vector has the same. */
export interface MaskingData {
  layout: VectorLayout;
  delta: ValueFile;
  /** Subtracted from it. */
  minus?: ValueFile;
  /** Exists; each leaf is written at its place. */
  outFile: string;
  /** What every value is multiplied by: at most 1. */
  factor: number;
  weight: number;
  keys: readonly MaskKey[];
  metrics: MetricValues;
  /** One Int32 that all threads share: the next piece that nobody has taken. */
  nextPiece: SharedArrayBuffer;
}

/** Per tensor, in the order of the layout. */
export interface TensorTallies {
  saturated: Float64Array;
  squares: Float64Array;
}

export interface HashedLeaf {
  index: number;
  hash: Uint8Array;
}

/** When all are done with the pieces. */
export type MaskingRequest =
  /** To one thread, with what they counted together; then it ends. */
  | { do: "tail"; tallies: TensorTallies }
  /** To the others: erase and end. */
  | { do: "end" };

export type MaskingAnswer =
  /** First: the thread runs. It goes on by itself. */
  | { kind: "started" }
  /** No piece is left; these leaves are written. */
  | { kind: "pieces"; leaves: HashedLeaf[]; tallies: TensorTallies }
  | { kind: "tail"; leaves: HashedLeaf[] }
  /** With a code: the delta's fault. Without: the disk, the memory. */
  | { kind: "failed"; code?: SecaggCode; message: string };
