/**
 * The two shares that one member deals another, under a key of this pair, direction and session (secure-aggregation.md §3, M1).
 * Holds: AES-256-GCM with the nonce 0^96, which is safe because a key encrypts once; a session never computes its M1 a second time.
 */
import { createCipheriv, createDecipheriv } from "node:crypto";
import { concat, u32 } from "./bytes.ts";
import { hkdf, type SecretKey, sharedSecret } from "./key-agreement.ts";
import { SHARE_BYTES } from "./shares.ts";

const TAG_BYTES = 16;
export const CIPHERTEXT_BYTES = 2 * SHARE_BYTES + TAG_BYTES;
const NONCE = new Uint8Array(12);

/** One direction between two members; `secretKey` is the c_sk of the one, `publicKey` the c_pk of the other. */
export interface ShareChannel {
  secretKey: SecretKey;
  publicKey: Uint8Array;
  t1: Uint8Array;
  from: number;
  to: number;
}

export interface DealtShares {
  /** of b, 32 bytes */
  selfShare: Uint8Array;
  /** of s_sk, 32 bytes */
  pairShare: Uint8Array;
}

/** @returns 80 bytes. @throws SecaggFault "KeysInvalid" for a public key of a small subgroup */
export function encryptShares(channel: ShareChannel, shares: DealtShares): Uint8Array {
  const cipher = createCipheriv("aes-256-gcm", channelKey(channel), NONCE);
  cipher.setAAD(associated(channel));
  const plain = concat(shares.selfShare, shares.pairShare);
  const text = concat(cipher.update(plain), cipher.final(), cipher.getAuthTag());
  plain.fill(0);
  return text;
}

/** @returns undefined when the ciphertext is not what the sender's key, this session and this direction give */
export function decryptShares(channel: ShareChannel, ciphertext: Uint8Array): DealtShares | undefined {
  if (ciphertext.length !== CIPHERTEXT_BYTES) return undefined;
  const decipher = createDecipheriv("aes-256-gcm", channelKey(channel), NONCE, { authTagLength: TAG_BYTES });
  decipher.setAAD(associated(channel));
  decipher.setAuthTag(ciphertext.subarray(2 * SHARE_BYTES));
  const plain = decipher.update(ciphertext.subarray(0, 2 * SHARE_BYTES));
  try {
    decipher.final();
    // Copies: a Buffer of this size is a window into Node's common pool.
    return {
      selfShare: Uint8Array.from(plain.subarray(0, SHARE_BYTES)),
      pairShare: Uint8Array.from(plain.subarray(SHARE_BYTES)),
    };
  } catch {
    return undefined;
  } finally {
    plain.fill(0);
  }
}

const channelKey = ({ secretKey, publicKey, t1, from, to }: ShareChannel): Uint8Array =>
  hkdf(sharedSecret(secretKey, publicKey), t1, "share-enc", concat(u32(from), u32(to)));

const associated = ({ t1, from, to }: ShareChannel): Uint8Array => concat(t1, u32(from), u32(to));
