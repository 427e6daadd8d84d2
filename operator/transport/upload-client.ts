/**
 * The agent's side of Upload: one try of sending a file over one connection, from where the operator already is.
 * Holds: one chunk in memory; a receipt is believed when it is signed by the plan key and names this very file.
 */
import { type FileHandle, open, stat } from "node:fs/promises";
import type { ClientDuplexStream } from "@grpc/grpc-js";
import { LEAF_BYTES, leafHash, leavesOfFile, merkleRoot, readFully } from "../journal/merkle.ts";
import type { ConnectionParts } from "./connection.ts";
import { type Connection, planKeyOf } from "./connection.ts";
import { openMessage, seal } from "./envelope.ts";
import { fromServiceError, TransportFault } from "./faults.ts";
import {
  type Manifest,
  Receipt,
  type UploadMessage,
  UploadOpening,
  type UploadReply,
  type Work,
} from "./generated/rondo.v1.ts";
import { Inbox, writeMessage } from "./inbox.ts";
import { MOST_REPORT_BYTES, OPENING_MS, STALLED_MS } from "./limits.ts";

/** The operator syncs the file and journals before it gives a receipt; a slow disk may take this long for a large file. */
const RECEIPT_MS = 120_000;

export interface UploadTry {
  manifest: Manifest;
  file: string;
  /** Bytes that the operator holds or that have left for it. */
  onProgress?: (bytes: number) => void;
  signal: AbortSignal;
}

/** Of a masked vector: its signature, 64 bytes, and its leaves where they are known. Each chunk is held against its leaf anyway. */
export interface SignedFile {
  signature: Uint8Array;
  leaves?: Uint8Array[];
}

/** The manifest of a file. @param work  its step becomes "upload" */
export async function manifestOf(
  file: string,
  work: Work,
  planHash: Uint8Array,
  { signature: inputSignature, leaves: known }: SignedFile = { signature: new Uint8Array() },
): Promise<Manifest> {
  const { leaves, byteLength } = known
    ? { leaves: known, byteLength: (await stat(file)).size }
    : await leavesOfFile(file);
  return { work: { ...work, step: "upload" }, planHash, byteLength, leaves, inputSignature };
}

/** @throws TransportFault; its `retry` says whether another try can succeed */
export async function uploadOnce(connection: Connection, parts: ConnectionParts, upload: UploadTry): Promise<Receipt> {
  const call = connection.channel.upload();
  const inbox = new Inbox<UploadReply>(call);
  const stop = () => inbox.fail(new TransportFault("Stopped", "The upload was given up"));
  const lost = () => inbox.fail(new TransportFault("Unavailable", "The connection ended"));
  upload.signal.addEventListener("abort", stop, { once: true });
  connection.ended.addEventListener("abort", lost, { once: true });
  try {
    if (upload.signal.aborted) stop();
    const body = UploadOpening.encode({ challenge: connection.challenge, manifest: upload.manifest }).finish();
    const opening = {
      message: { $case: "opening", value: seal("upload", body, parts.identity) },
    } satisfies UploadMessage;
    await writeMessage(call, opening, OPENING_MS);
    return await converse(call, inbox, upload, parts);
  } catch (error) {
    // Whatever ended the stream is in the inbox; a failed write only says that it ended.
    throw fromServiceError(await reasonOf(inbox, error), parts.invitation.endpoint);
  } finally {
    upload.signal.removeEventListener("abort", stop);
    connection.ended.removeEventListener("abort", lost);
    call.cancel();
  }
}

async function converse(
  call: ClientDuplexStream<UploadMessage, UploadReply>,
  inbox: Inbox<UploadReply>,
  upload: UploadTry,
  parts: ConnectionParts,
): Promise<Receipt> {
  const first = await inbox.next(RECEIPT_MS);
  if (first?.message?.$case === "receipt") return checkedReceipt(first, upload.manifest, parts);
  if (first?.message?.$case !== "offset") throw new TransportFault("Unavailable", "The operator ended the upload");
  const file = await open(upload.file, "r");
  try {
    await sendChunks(call, inbox, { ...upload, file, from: first.message.value });
  } finally {
    await file.close();
  }
  return checkedReceipt(await inbox.next(RECEIPT_MS), upload.manifest, parts);
}

async function sendChunks(
  call: ClientDuplexStream<UploadMessage, UploadReply>,
  inbox: Inbox<UploadReply>,
  { manifest, file, from, onProgress }: Omit<UploadTry, "file"> & { file: FileHandle; from: number },
): Promise<void> {
  if (from % LEAF_BYTES !== 0 && from !== manifest.byteLength) {
    throw new TransportFault("MessageInvalid", "The operator asked for an offset that is no multiple of 2^20");
  }
  onProgress?.(from);
  const buffer = Buffer.alloc(LEAF_BYTES);
  for (let at = from; at < manifest.byteLength; ) {
    inbox.throwIfFailed();
    const data = await chunkOf(file, manifest, at, buffer);
    const chunk = { message: { $case: "chunk", value: { offset: at, data } } } satisfies UploadMessage;
    await writeMessage(call, chunk, STALLED_MS);
    at += data.length;
    onProgress?.(at);
  }
}

async function chunkOf(file: FileHandle, manifest: Manifest, at: number, buffer: Buffer): Promise<Uint8Array> {
  const data = buffer.subarray(0, Math.min(LEAF_BYTES, manifest.byteLength - at));
  const read = await readFully(file, data, at);
  const leaf = manifest.leaves[at / LEAF_BYTES];
  if (read < data.length || !leaf || !Buffer.from(leafHash(data)).equals(leaf)) {
    throw new TransportFault("ManifestDiffers", "The file to upload changed after its manifest was made");
  }
  return data;
}

function checkedReceipt(reply: UploadReply | undefined, manifest: Manifest, { invitation }: ConnectionParts): Receipt {
  const signed = reply?.message?.$case === "receipt" ? reply.message.value : undefined;
  if (!signed) throw new TransportFault("Unavailable", "The operator ended the upload without a receipt");
  const expected = { kind: "receipt", publicKey: planKeyOf(invitation), mostBytes: MOST_REPORT_BYTES } as const;
  const receipt = openMessage(signed, expected, Receipt);
  const root = merkleRoot(manifest.leaves);
  const isOurs =
    Buffer.from(receipt.root).equals(root) &&
    receipt.byteLength === manifest.byteLength &&
    isSameWork(receipt.work, manifest.work);
  if (!isOurs) throw new TransportFault("MessageInvalid", "The operator's receipt is for another file");
  return receipt;
}

function isSameWork(a: Work | undefined, b: Work | undefined): boolean {
  if (!a || !b) return false;
  const keys = ["federation", "round", "attempt", "purpose", "participant"] as const;
  return keys.every((key) => a[key] === b[key]);
}

async function reasonOf(inbox: Inbox<UploadReply>, error: unknown): Promise<unknown> {
  if (error instanceof TransportFault && error.code !== "Unavailable") return error;
  try {
    while (await inbox.next(1_000));
    return error;
  } catch (reason) {
    return reason instanceof TransportFault && reason.code === "TimedOut" ? error : reason;
  }
}
