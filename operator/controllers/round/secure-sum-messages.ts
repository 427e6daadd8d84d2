/**
 * What the main thread and a round's ring-sum worker say to each other: tagged unions, requests with ids, faults as plain data.
 * All of it survives structuredClone. No secret passes but the shares in a cohort's state, which its members have revealed by then.
 */
import type { Plan } from "../../round/plan.ts";
import type { Complete } from "../../secagg/coordinator/states.ts";
import type { SecaggCode } from "../../secagg/faults.ts";
import type { MaskKey } from "../../secagg/masks.ts";
import type { SessionTerms } from "../../secagg/messages.ts";
import type { Ring } from "../../secagg/vector.ts";

/** workerData: one worker serves one round. */
export interface SecureSumOptions {
  /** With `secure`. */
  plan: Plan;
  /** Of each cohort of the plan, in its order. */
  terms: readonly SessionTerms[];
  /** A path on the volume that nobody else uses: there the sum of a cohort waits, without a name, while another one is made. */
  scratch: string;
}

/** A masked vector in the spool: complete, of the planned length, its root verified. */
export interface Input {
  participant: string;
  file: string;
}

/** What one cohort has contributed together: all that anybody learns of its members. */
export interface CohortSum {
  cohort: number;
  /** |U3| */
  contributors: number;
  /** W: from |U3| to 255·|U3|. */
  weight: number;
  /** Sums of the metrics that are not per tensor, in their own unit, in the plan's order. */
  metrics: Array<{ name: string; value: number }>;
  /** Coordinates beyond the clip, over all contributors; one per tensor, in the plan's order. */
  saturated: number[];
  /** Σ w·mean(x²)/C_t²; one per tensor, in the plan's order. */
  energy: number[];
  /** Members whose share was wrong although the secret could be found without it. */
  liars: string[];
  /** Finding the secrets and removing the masks. */
  unmaskSeconds: number;
}

/** Ends the cohort: no sum of it is used. */
export interface CohortFault {
  cohort: number;
  code: SecaggCode;
  /** A sentence, at most 256 characters. */
  message: string;
  accused: string[];
}

export type SecureSumRequest =
  | { id: number; do: "add"; cohort: number; input: Input }
  /** Answered once. The inputs are those of U3: what was added beside them is left out, what is missing is added. */
  | { id: number; do: "unmask"; cohort: number; state: Complete; inputs: Input[] }
  /** Writes parent + mean over these cohorts, all of them unmasked, as F32 safetensors. The sums stay. */
  | { id: number; do: "candidate"; cohorts: number[]; parentFile: string; outFile: string };

/** What a helper thread is given: pieces of a vector are taken from `next` on until none is left. */
export interface UnmaskTask {
  vector: SharedArrayBuffer;
  ring: Ring;
  keys: MaskKey[];
  /** One i32: the number of the next piece. */
  next: SharedArrayBuffer;
}

/** What a helper answers when no piece is left. */
export interface UnmaskDone {
  kind: "done";
}

export type SecureSumAnswer =
  /** In the accumulator, or in the queue while another cohort has it. */
  | { id: number; kind: "added" }
  | { id: number; kind: "unmasked"; sum: CohortSum }
  | { id: number; kind: "lost"; fault: CohortFault }
  | { id: number; kind: "candidate"; digest: string; byteLength: number }
  /** No candidate can be made of these sums and this parent, however often it is tried. */
  | { id: number; kind: "impossible"; message: string }
  /** Not a participant's doing: the disk, the memory. The sums are worth nothing from now on. */
  | { id: number; kind: "failed"; message: string };
