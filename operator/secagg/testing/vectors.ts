/**
 * Vectors, masks and sums of tests, element by element and as the specification writes them (secure-aggregation.md §3 "PRG"): what
 * masks.ts and the kernels compute is checked elsewhere, so that a mistake of theirs cannot hide here.
 */
import { createCipheriv } from "node:crypto";
import { concat, sha256, u32, utf8 } from "../bytes.ts";
import type { MaskKey } from "../masks.ts";
import { ELEMENTS } from "./cohort.ts";

/** What a member contributes: nothing that could be mistaken for another member's, or for nothing. */
export function inputOf(index: number): Uint32Array {
  const bytes = sha256(concat(utf8("input"), u32(index)));
  return Uint32Array.from({ length: ELEMENTS }, (_, at) => Buffer.from(bytes).readUInt32LE(4 * at));
}

/** x + Σ sign·PRG(key) mod 2^32 */
export function withMasks(vector: Uint32Array, keys: readonly MaskKey[]): Uint32Array {
  const sum = Uint32Array.from(vector);
  for (const { key, sign } of keys) {
    const mask = keystream(key, vector.length);
    for (let at = 0; at < sum.length; at++) sum[at]! += sign * mask[at]!;
  }
  return sum;
}

export function sumOf(vectors: readonly Uint32Array[]): Uint32Array {
  const sum = new Uint32Array(ELEMENTS);
  for (const vector of vectors) for (let at = 0; at < sum.length; at++) sum[at]! += vector[at]!;
  return sum;
}

/** inputRoot of a vector that fits into one leaf. */
export function rootOf(vector: Uint32Array): Uint8Array {
  const bytes = Buffer.alloc(4 * vector.length);
  vector.forEach((element, at) => {
    bytes.writeUInt32LE(element, 4 * at);
  });
  return sha256(concat(new Uint8Array([0]), bytes));
}

function keystream(key: Uint8Array, elements: number): number[] {
  const bytes = createCipheriv("aes-256-ctr", key, Buffer.alloc(16)).update(Buffer.alloc(4 * elements));
  return Array.from({ length: elements }, (_, at) => bytes.readUInt32LE(4 * at));
}
