/**
 * Keys of one session: X25519, HKDF and Ed25519 over raw bytes (secure-aggregation.md §2, §3; RFC 7748, 5869, 8032).
 * Holds: a key of a small subgroup is refused, and what HKDF gives is salted by T1, so that no key serves two sessions.
 * Does not: draw secrets; they are arguments.
 */
import { createPrivateKey, createPublicKey, diffieHellman, hkdfSync, type KeyObject, verify } from "node:crypto";
import { concat, labelled, PROTOCOL, u32, utf8 } from "./bytes.ts";
import { SecaggFault } from "./faults.ts";

export const KEY_BYTES = 32;
export const SIGNATURE_BYTES = 64;

// RFC 8410: what stands before the 32 raw bytes in PKCS#8 and in SPKI.
const X25519_PRIVATE = Buffer.from("302e020100300506032b656e04220420", "hex");
const X25519_PUBLIC = Buffer.from("302a300506032b656e032100", "hex");
const ED25519_PUBLIC = Buffer.from("302a300506032b6570032100", "hex");

/**
 * An X25519 secret: 32 raw bytes, or what `agreementKey` makes of them. Making it costs three times what an agreement costs, so that
 * a secret that meets many public keys is made once.
 */
export type SecretKey = Uint8Array | KeyObject;

/** @param secretKey  any 32 bytes; clamped as RFC 7748 §5 says */
export const agreementKey = (secretKey: Uint8Array): KeyObject =>
  createPrivateKey({ key: Buffer.concat([X25519_PRIVATE, of32(secretKey)]), format: "der", type: "pkcs8" });

/** @param secretKey  any 32 bytes */
export function publicKeyOf(secretKey: Uint8Array): Uint8Array {
  const spki = createPublicKey(agreementKey(secretKey)).export({ format: "der", type: "spki" });
  return new Uint8Array(spki.subarray(X25519_PUBLIC.length));
}

/**
 * X25519(secretKey, publicKey).
 * @throws SecaggFault "KeysInvalid" for a public key of a small subgroup, whose result would be zero whatever the secret is
 */
export function sharedSecret(secretKey: SecretKey, publicKey: Uint8Array): Uint8Array {
  const privateKey = secretKey instanceof Uint8Array ? agreementKey(secretKey) : secretKey;
  const keys = { privateKey, publicKey: x25519Public(publicKey) };
  try {
    return new Uint8Array(diffieHellman(keys));
  } catch {
    throw new SecaggFault("KeysInvalid", "a key agreement key is a point of a small subgroup");
  }
}

/** Whether `sharedSecret` takes the key. Every clamped scalar is a multiple of 8, so that one secret tells for all of them. */
export function isUsable(publicKey: Uint8Array): boolean {
  try {
    return publicKey.length === KEY_BYTES && sharedSecret(ANY_SECRET, publicKey).length === KEY_BYTES;
  } catch {
    return false;
  }
}

/** HKDF(ikm, label, context) of §2: 32 bytes, salted by T1. */
export function hkdf(ikm: Uint8Array, transcript1: Uint8Array, label: string, context: Uint8Array): Uint8Array {
  return hkdfSha256(ikm, transcript1, labelled(label, context), KEY_BYTES);
}

/** RFC 5869. */
export const hkdfSha256 = (ikm: Uint8Array, salt: Uint8Array, info: Uint8Array, length: number): Uint8Array =>
  new Uint8Array(hkdfSync("sha256", ikm, salt, info, length));

/** Of the mask that v and u add with opposite signs; both ends get the same. */
export function pairMaskKey(
  secretKey: SecretKey,
  publicKey: Uint8Array,
  transcript1: Uint8Array,
  pair: readonly [number, number],
): Uint8Array {
  const context = concat(u32(Math.min(...pair)), u32(Math.max(...pair)));
  return hkdf(sharedSecret(secretKey, publicKey), transcript1, "pair-mask", context);
}

/** Of the mask that `index` alone adds. */
export const selfMaskKey = (b: Uint8Array, transcript1: Uint8Array, index: number): Uint8Array =>
  hkdf(b, transcript1, "self-mask", u32(index));

/** L"sig/" ‖ label ‖ "/" ‖ body: what sig_u(label, body) signs. */
export const signedBytes = (label: string, body: Uint8Array): Uint8Array =>
  concat(utf8(`${PROTOCOL}sig/${label}/`), body);

/** @param identity  Ed25519 public key, of the caller's own pins */
export const verifySigned = (identity: Uint8Array, label: string, body: Uint8Array, signature: Uint8Array): boolean =>
  isSignedBy(identity, signedBytes(label, body), signature);

/** RFC 8032. A signature of any other length than 64 bytes is none. */
export const isSignedBy = (identity: Uint8Array, bytes: Uint8Array, signature: Uint8Array): boolean =>
  signature.length === SIGNATURE_BYTES && verify(null, bytes, ed25519Public(identity), signature);

const x25519Public = (raw: Uint8Array): KeyObject =>
  createPublicKey({ key: Buffer.concat([X25519_PUBLIC, of32(raw)]), format: "der", type: "spki" });

const ed25519Public = (raw: Uint8Array): KeyObject =>
  createPublicKey({ key: Buffer.concat([ED25519_PUBLIC, of32(raw)]), format: "der", type: "spki" });

function of32(raw: Uint8Array): Uint8Array {
  if (raw.length !== KEY_BYTES) throw new RangeError(`a key has ${KEY_BYTES} bytes, not ${raw.length}`);
  return raw;
}

/** Of isUsable. */
const ANY_SECRET = agreementKey(new Uint8Array(KEY_BYTES));
