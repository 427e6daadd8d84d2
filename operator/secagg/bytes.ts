/**
 * Byte strings of secure aggregation: how numbers and texts are laid out in everything that is hashed or signed (secure-aggregation.md §2).
 * Holds: integers are big-endian, texts UTF-8; a label begins with L.
 */
import { createHash, timingSafeEqual } from "node:crypto";

/** L: what every label of this protocol's version begins with. */
export const PROTOCOL = "rondo/secagg/v1/";

export const sha256 = (bytes: Uint8Array): Uint8Array => new Uint8Array(createHash("sha256").update(bytes).digest());

/** L ‖ label, and then the parts. */
export const labelled = (label: string, ...parts: readonly Uint8Array[]): Uint8Array =>
  concat(utf8(PROTOCOL + label), ...parts);

/** LP(x): u32 length ‖ x. */
export function lengthPrefixed(value: Uint8Array | string): Uint8Array {
  const bytes = typeof value === "string" ? utf8(value) : value;
  return concat(u32(bytes.length), bytes);
}

/** @param value  an integer in [0, 2^32) */
export function u32(value: number): Uint8Array {
  if (!Number.isInteger(value) || value < 0 || value > 0xffff_ffff) throw new RangeError(`${value} is no u32`);
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
}

/** @param value  an integer in [0, 2^53) */
export function u64(value: number): Uint8Array {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`${value} is no u64 that a number can hold`);
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value));
  return bytes;
}

export const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** In constant time for a length; strings of different lengths differ. */
export const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && timingSafeEqual(a, b);

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
