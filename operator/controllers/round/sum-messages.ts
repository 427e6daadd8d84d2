/**
 * What the main thread and a round's sum worker say to each other: tagged unions, requests with ids, faults as plain data.
 * All of it survives structuredClone; the private key is copied, and the worker's copy ends with the worker.
 */
import type { Plan } from "../../round/plan.ts";

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
  | { id: number; kind: "candidate"; digest: string; byteLength: number }
  /** Neither the contribution's fault nor ours to mend: the disk, the memory, the parent. */
  | { id: number; kind: "failed"; message: string };
