/**
 * The envelope `Signed{kind, body, signature}` (protocol.md): signature = Ed25519(key, "rondo/v1/" || kind || "/" || body).
 * Holds: a body is verified before anything decodes it, as the bytes that were received; it is never serialised again.
 */
import { createHash, type KeyObject, sign, verify } from "node:crypto";
import { TransportFault } from "./faults.ts";
import type { Signed } from "./generated/rondo.v1.ts";

export type SignedKind =
  | "enrol"
  | "renew"
  | "attend"
  | "accept"
  | "refuse"
  | "status"
  | "fail"
  | "advertise"
  | "share"
  | "consistency"
  | "unmask"
  | "commit"
  | "reveal"
  | "upload"
  | "download"
  | "plan"
  | "cancel"
  | "receipt";

const SIGNATURE_BYTES = 64;

export function seal(kind: SignedKind, body: Uint8Array, privateKey: KeyObject): Signed {
  return { kind, body, signature: sign(null, covered(kind, body), privateKey) };
}

/**
 * The verified body of an envelope.
 * @param kind       which kind is expected here: a signature under another kind does not count
 * @param mostBytes  refused before the signature is looked at
 * @throws TransportFault "MessageInvalid" | "MessageTooLarge" | "SignatureInvalid"
 */
export function openSigned(
  signed: Signed | undefined,
  { kind, publicKey, mostBytes }: { kind: SignedKind; publicKey: KeyObject; mostBytes: number },
): Uint8Array {
  if (!signed) throw new TransportFault("MessageInvalid", "The message has no envelope");
  if (signed.kind !== kind) {
    throw new TransportFault("MessageInvalid", `Expected a message of kind "${kind}"`);
  }
  if (signed.body.length > mostBytes) {
    throw new TransportFault(
      "MessageTooLarge",
      `A message of kind "${kind}" has at most ${mostBytes} bytes, this one has ${signed.body.length}`,
    );
  }
  const right =
    signed.signature.length === SIGNATURE_BYTES &&
    verify(null, covered(kind, signed.body), publicKey, signed.signature);
  if (!right) throw new TransportFault("SignatureInvalid", `The signature of a message of kind "${kind}" is wrong`);
  return signed.body;
}

/** The verified message of an envelope. @throws TransportFault as openSigned(), and "MessageInvalid" when it cannot be decoded */
export function openMessage<T>(
  signed: Signed | undefined,
  expected: { kind: SignedKind; publicKey: KeyObject; mostBytes: number },
  type: { decode(bytes: Uint8Array): T },
): T {
  return decode(openSigned(signed, expected), expected.kind, type);
}

/** For enrolment alone, where the key that verifies stands in the body itself: the caller verifies with it at once. */
export function decode<T>(body: Uint8Array, kind: SignedKind, type: { decode(bytes: Uint8Array): T }): T {
  try {
    return type.decode(body);
  } catch {
    throw new TransportFault("MessageInvalid", `A message of kind "${kind}" could not be decoded`);
  }
}

/** How an acknowledgement names a message. */
export function bodyHash(body: Uint8Array): Uint8Array {
  return createHash("sha256").update(body).digest();
}

function covered(kind: SignedKind, body: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.from(`rondo/v1/${kind}/`), body]);
}
