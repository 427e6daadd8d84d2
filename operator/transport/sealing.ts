/**
 * Trusted mode's sealing of a delta to the round key (protocol.md, last section): RFC 9180 base mode with X25519, HKDF-SHA256, AES-256-GCM.
 * Holds: file = enc (32 bytes), then records of one context: 2^20 − 16 bytes of plaintext + 16 of tag, the last one shorter;
 * info = "rondo/v1/sealed/" || planHash || LP(participant), aad = one byte, 1 on the last record and else 0. A file that is truncated,
 * extended, reordered, or another round's or participant's, does not open. One record is in memory at a time.
 * Does not: hide anything from the operator. It is never to be called secure aggregation.
 */

import { type FileHandle, open } from "node:fs/promises";
import { basename } from "node:path";
import { Aes256Gcm, CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } from "@hpke/core";
import { effect } from "../fault-injection.ts";
import { readFully } from "../journal/merkle.ts";

export const ENC_BYTES = 32;
export const RECORD_BYTES = 2 ** 20;
const TAG_BYTES = 16;
const PLAINTEXT_BYTES = RECORD_BYTES - TAG_BYTES;

const suite = new CipherSuite({
  kem: new DhkemX25519HkdfSha256(),
  kdf: new HkdfSha256(),
  aead: new Aes256Gcm(),
});

export class SealingFault extends Error {
  readonly code: "SealBroken";
  constructor(message: string) {
    super(message);
    this.name = "SealingFault";
    this.code = "SealBroken";
  }
}

/** What a sealed file is bound to. */
export interface SealedFor {
  /** 32 bytes */
  planHash: Uint8Array;
  participant: string;
}

/** A round's key pair, 32 raw bytes each. The private half is kept in the journal until the round ends, and removed then. */
export async function generateRoundKeys(): Promise<{ publicKey: Uint8Array; privateKey: Uint8Array }> {
  const pair = await suite.kem.generateKeyPair();
  return {
    publicKey: new Uint8Array(await suite.kem.serializePublicKey(pair.publicKey)),
    privateKey: new Uint8Array(await suite.kem.serializePrivateKey(pair.privateKey)),
  };
}

/** Bytes of the sealed file of so many bytes of plaintext. */
export function sealedLength(plaintextBytes: number): number {
  return ENC_BYTES + plaintextBytes + TAG_BYTES * Math.max(1, Math.ceil(plaintextBytes / PLAINTEXT_BYTES));
}

/** Bytes of plaintext in a sealed file of so many bytes, if it is whole: the inverse of sealedLength(). */
export function plaintextLength(sealedBytes: number): number {
  return sealedBytes - ENC_BYTES - TAG_BYTES * Math.max(1, Math.ceil((sealedBytes - ENC_BYTES) / RECORD_BYTES));
}

/**
 * Seals the file `source` into the new file `destination` (0600, synced before this resolves).
 * @param publicKey  `sealing.publicKey` of the plan, 32 bytes
 */
export async function sealFile(
  source: string,
  destination: string,
  { publicKey, planHash, participant }: SealedFor & { publicKey: Uint8Array },
): Promise<void> {
  const recipientPublicKey = await suite.kem.deserializePublicKey(exact(publicKey));
  const context = await suite.createSenderContext({ recipientPublicKey, info: infoOf({ planHash, participant }) });
  const input = await open(source, "r");
  try {
    const output = await open(destination, "wx", 0o600);
    try {
      await output.writeFile(new Uint8Array(context.enc));
      const { size } = await input.stat();
      for await (const record of recordsOf(input, { from: 0, size, recordBytes: PLAINTEXT_BYTES })) {
        await output.writeFile(new Uint8Array(await context.seal(record.bytes, aadOf(record.isLast))));
      }
      await output.sync();
      effect("file", `write ${basename(destination)}`);
    } finally {
      await output.close();
    }
  } finally {
    await input.close();
  }
}

/**
 * The plaintext of a sealed file, a record at a time and in order. What was given out counts only when the iteration ends without
 * a fault: an earlier record of a truncated file opens.
 * @param privateKey  32 bytes
 * @throws SealingFault while iterating
 */
export async function* openRecords(
  file: string,
  { privateKey, planHash, participant }: SealedFor & { privateKey: Uint8Array },
): AsyncGenerator<Uint8Array, void, undefined> {
  const input = await open(file, "r");
  try {
    const { size } = await input.stat();
    if (size < ENC_BYTES + TAG_BYTES) throw new SealingFault("The sealed file is too short to hold a record");
    const enc = Buffer.alloc(ENC_BYTES);
    await readFully(input, enc, 0);
    const recipientKey = await suite.kem.deserializePrivateKey(exact(privateKey));
    const context = await suite
      .createRecipientContext({ recipientKey, enc: exact(enc), info: infoOf({ planHash, participant }) })
      .catch(() => {
        throw new SealingFault("The sealed file's key share is invalid");
      });
    let number = 0;
    for await (const record of recordsOf(input, { from: ENC_BYTES, size, recordBytes: RECORD_BYTES })) {
      const plaintext = await context.open(record.bytes, aadOf(record.isLast)).catch(() => {
        throw new SealingFault(
          `Record ${number} of the sealed file does not open: it was damaged, cut or extended, or sealed for another round or participant`,
        );
      });
      number += 1;
      yield new Uint8Array(plaintext);
    }
  } finally {
    await input.close();
  }
}

/** At least one record, and only the last one may be short, so that the end of the plaintext is sealed too. */
async function* recordsOf(
  file: FileHandle,
  { from, size, recordBytes }: { from: number; size: number; recordBytes: number },
): AsyncGenerator<{ bytes: ArrayBuffer; isLast: boolean }> {
  let at = from;
  do {
    const bytes = new Uint8Array(Math.min(recordBytes, size - at));
    if ((await readFully(file, bytes, at)) < bytes.length)
      throw new SealingFault("The file became shorter while it was read");
    at += bytes.length;
    yield { bytes: bytes.buffer, isLast: at >= size };
  } while (at < size);
}

function infoOf({ planHash, participant }: SealedFor): ArrayBuffer {
  if (planHash.length !== 32) throw new RangeError(`A plan hash has 32 bytes, not ${planHash.length}`);
  const name = Buffer.from(participant, "utf8");
  const length = Buffer.alloc(4);
  length.writeUInt32BE(name.length);
  return exact(Buffer.concat([Buffer.from("rondo/v1/sealed/"), planHash, length, name]));
}

function aadOf(isLast: boolean): ArrayBuffer {
  return exact(Uint8Array.of(isLast ? 1 : 0));
}

/** The bytes alone: the buffer of a view may be Node's shared pool. */
function exact(bytes: Uint8Array): ArrayBuffer {
  return new Uint8Array(bytes).buffer;
}
