/**
 * Masks off a vector by as many threads as there are: each takes the next piece until none is left, so that a slow one holds up nobody.
 * Holds: every piece is taken once, by whoever comes first.
 */
import type { Kernel } from "../../secagg/kernels/kernel.ts";
import { applyMasks } from "../../secagg/masks.ts";
import type { UnmaskTask } from "./secure-sum-messages.ts";

/** 1 MiB: long enough that making n ciphers for it does not show (5 µs each to 0.3 ms of keystream), short enough for 20 MiB on 4 cores. */
export const PIECE_BYTES = 1 << 20;

export function unmaskPieces({ vector, ring, keys, next }: UnmaskTask, kernel: Kernel): void {
  const bytes = new Uint8Array(vector);
  const counter = new Int32Array(next);
  for (;;) {
    const from = Atomics.add(counter, 0, 1) * PIECE_BYTES;
    if (from >= bytes.length) return;
    applyMasks(bytes, ring, keys, { from, to: Math.min(from + PIECE_BYTES, bytes.length) }, kernel);
  }
}
