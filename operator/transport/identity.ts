/**
 * Ed25519 keys as 32 raw bytes, the form of every message and resource, and as keys of node:crypto.
 */
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";

export const ED25519_BYTES = 32;

// RFC 8410: what stands before the 32 bytes in PKCS #8 and in SubjectPublicKeyInfo.
const PKCS8_PREFIX = Buffer.from("302e020100300506032b657004220420", "hex");
const SPKI_PREFIX = Buffer.from("302a300506032b6570032100", "hex");

export function generateIdentity(): { privateKey: KeyObject; publicKey: KeyObject } {
  return generateKeyPairSync("ed25519");
}

/** @throws RangeError unless there are 32 bytes */
export function publicKeyFromRaw(raw: Uint8Array): KeyObject {
  return createPublicKey({ key: Buffer.concat([SPKI_PREFIX, checked(raw)]), format: "der", type: "spki" });
}

/** @param seed  the 32 bytes of RFC 8032's private key. @throws RangeError unless there are 32 bytes */
export function privateKeyFromRaw(seed: Uint8Array): KeyObject {
  return createPrivateKey({ key: Buffer.concat([PKCS8_PREFIX, checked(seed)]), format: "der", type: "pkcs8" });
}

/** The 32 bytes of a public key, or of the public half of a private key. */
export function rawPublicKey(key: KeyObject): Uint8Array {
  const publicKey = key.type === "private" ? createPublicKey(key) : key;
  return new Uint8Array(publicKey.export({ format: "der", type: "spki" }).subarray(SPKI_PREFIX.length));
}

export function rawPrivateKey(key: KeyObject): Uint8Array {
  return new Uint8Array(key.export({ format: "der", type: "pkcs8" }).subarray(PKCS8_PREFIX.length));
}

/** SHA-256 of the raw public key, hex: how a certificate names the identity it was issued to (certificates.ts). */
export function identityFingerprint(raw: Uint8Array): string {
  return createHash("sha256").update(checked(raw)).digest("hex");
}

function checked(raw: Uint8Array): Uint8Array {
  if (raw.length !== ED25519_BYTES) throw new RangeError(`An Ed25519 key has 32 bytes, not ${raw.length}`);
  return raw;
}
