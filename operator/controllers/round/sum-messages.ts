/**
 * What the main thread and a round's sum worker say to each other: tagged unions, requests with ids, faults as plain data.
 * All of it survives structuredClone; the private key is copied, and the worker's copy ends with the worker.
 */
import type { Plan } from "../../round/plan.ts";
import type { RoundMetrics } from "../../round/record.ts";

/** workerData: one worker serves one round. */
export interface SumOptions {
  tensors: Plan["tensors"];
  /** 32 bytes. */
  planHash: Uint8Array;
  /** The round's secret key, 32 bytes. */
  privateKey: Uint8Array;
  clipNorm: number;
}

export type SumRequest =
  | { id: number; do: "add"; participant: string; file: string }
  /** Writes parent + sum / Σ weight as F32 safetensors. Answered once; the sum stays. */
  | { id: number; do: "candidate"; parentFile: string; outFile: string };

export type SumAnswer =
  | { id: number; kind: "added" }
  /** The contribution is not in the sum, not even in part. */
  | { id: number; kind: "refused"; reason: string; message: string }
  /** `metrics`: means over at least three contributors. */
  | { id: number; kind: "candidate"; digest: string; byteLength: number; metrics?: RoundMetrics }
  /** No candidate can be made of this sum and this parent, however often it is tried. */
  | { id: number; kind: "impossible"; message: string }
  /** Neither the contribution's fault nor the sum's: the disk, the memory. The sum is worth nothing from now on. */
  | { id: number; kind: "failed"; message: string };
