/**
 * Canonical JSON (RFC 8785), the only form in which a plan is signed and hashed (protocol.md "A plan").
 * Holds: bytes that are read are exactly the canonical bytes of the value they give; so one value has one hash.
 */
import canonicalize from "canonicalize";
import { TransportFault } from "./faults.ts";

/** @throws TypeError for what JSON cannot say (undefined, a function, NaN) */
export function canonicalBytes(value: unknown): Uint8Array {
  const text = canonicalize(value);
  if (text === undefined) throw new TypeError("The value cannot be written as JSON");
  return Buffer.from(text, "utf8");
}

/** @throws TransportFault "PlanInvalid" unless the bytes are the canonical JSON of a value */
export function parseCanonical(bytes: Uint8Array): unknown {
  const value = parse(bytes);
  if (!isCanonical(value, bytes))
    throw new TransportFault("PlanInvalid", "The plan's JSON is not canonical (RFC 8785)");
  return value;
}

function parse(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch {
    throw new TransportFault("PlanInvalid", "The plan is not JSON in UTF-8");
  }
}

/** Doubled keys, spaces, another order and other spellings of a number or string all end here: they are not what canonicalBytes() writes. */
function isCanonical(value: unknown, bytes: Uint8Array): boolean {
  try {
    return Buffer.from(canonicalBytes(value)).equals(bytes);
  } catch {
    return false; // nested so deep that it cannot be written, or an unpaired surrogate
  }
}
