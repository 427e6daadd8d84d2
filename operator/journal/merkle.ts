/**
 * Merkle tree hash of RFC 6962 §2.1 over a file cut into leaves of 2^20 bytes (secure-aggregation.md §3, protocol.md "A manifest").
 * Holds: leaf = SHA-256(0x00 || bytes), node = SHA-256(0x01 || left || right), split at the largest power of two below the number of leaves.
 */
import { createHash } from "node:crypto";
import { open } from "node:fs/promises";

/** One leaf, one chunk of an upload: offsets are multiples of it (protocol.md). */
export const LEAF_BYTES = 2 ** 20;
export const HASH_BYTES = 32;

const LEAF_PREFIX = Uint8Array.of(0);
const NODE_PREFIX = Uint8Array.of(1);

/** @param bytes  one leaf: LEAF_BYTES, the last one of a file fewer */
export function leafHash(bytes: Uint8Array): Uint8Array {
  return createHash("sha256").update(LEAF_PREFIX).update(bytes).digest();
}

/** @param leaves  the leaf hashes in order; none gives the hash of the empty string (RFC 6962 §2.1) */
export function merkleRoot(leaves: readonly Uint8Array[]): Uint8Array {
  if (leaves.length === 0) return createHash("sha256").digest();
  if (leaves.length === 1) return leaves[0]!;
  let split = 1;
  while (split * 2 < leaves.length) split *= 2;
  const left = merkleRoot(leaves.slice(0, split));
  const right = merkleRoot(leaves.slice(split));
  return createHash("sha256").update(NODE_PREFIX).update(left).update(right).digest();
}

/** How many leaves a file of this length has. */
export function leafCount(byteLength: number): number {
  return Math.ceil(byteLength / LEAF_BYTES);
}

/** The leaf hashes of a file, one leaf in memory at a time. */
export async function leavesOfFile(path: string): Promise<{ leaves: Uint8Array[]; byteLength: number }> {
  const file = await open(path, "r");
  try {
    const buffer = Buffer.allocUnsafe(LEAF_BYTES);
    const leaves: Uint8Array[] = [];
    let byteLength = 0;
    for (;;) {
      const length = await readFully(file, buffer, byteLength);
      if (length === 0) return { leaves, byteLength };
      leaves.push(leafHash(buffer.subarray(0, length)));
      byteLength += length;
    }
  } finally {
    await file.close();
  }
}

/** Fills `buffer` from `position`, however short single reads are. @returns fewer bytes than asked only at the end of the file */
export async function readFully(
  file: { read(buffer: Uint8Array, offset: number, length: number, position: number): Promise<{ bytesRead: number }> },
  buffer: Uint8Array,
  position: number,
): Promise<number> {
  let filled = 0;
  while (filled < buffer.length) {
    const { bytesRead } = await file.read(buffer, filled, buffer.length - filled, position + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return filled;
}
