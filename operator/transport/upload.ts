/**
 * The operator's side of Upload: signed manifest → offset → chunks → receipt (protocol.md).
 * Holds: a chunk is verified against its leaf before it is written; the next one is read when it has been; the receipt goes after the file
 * is synced and the coordinator and the record are journalled. A slow or dead upload costs one file handle and one chunk.
 */
import type { ServerDuplexStream } from "@grpc/grpc-js";
import { giveBack } from "../journal/give-back.ts";
import { HASH_BYTES, leafCount, merkleRoot } from "../journal/merkle.ts";
import { SpoolFault, type SpoolUpload } from "../journal/spool.ts";
import { authenticate } from "./authenticate.ts";
import { openMessage, seal } from "./envelope.ts";
import { TransportFault } from "./faults.ts";
import {
  type Manifest,
  Receipt,
  type UploadMessage,
  UploadOpening,
  type UploadReply,
  type Work,
} from "./generated/rondo.v1.ts";
import { Inbox, writeMessage } from "./inbox.ts";
import { MOST_MESSAGE_BYTES, OPENING_MS, STALLED_MS } from "./limits.ts";
import { checkWork } from "./reports.ts";
import { SIGNATURE_BYTES } from "./secure-shapes.ts";
import type { CoordinationParts } from "./server.ts";
import { recordBegun, recordedUpload, recordReceived } from "./upload-record.ts";

export type UploadCall = ServerDuplexStream<UploadMessage, UploadReply>;

interface Offer {
  participant: string;
  work: Work;
  manifest: Manifest;
  root: string;
}

/** Serves one upload until its receipt. @throws TransportFault with which the stream is to end */
export async function serveUpload(call: UploadCall, parts: CoordinationParts): Promise<void> {
  const inbox = new Inbox<UploadMessage>(call);
  const speaker = authenticate(call, { coordinator: parts.coordinator, realm: parts.realm, nowMs: parts.now() });
  const first = await inbox.next(OPENING_MS);
  if (!first) return;
  const opening = openMessage(
    first.message?.$case === "opening" ? first.message.value : undefined,
    { kind: "upload", publicKey: speaker.identity, mostBytes: MOST_MESSAGE_BYTES },
    UploadOpening,
  );
  const session = parts.sessions.byChallenge(speaker.participant, opening.challenge);
  const release = session.onEnd((fault) => inbox.fail(fault));
  try {
    await receive(call, inbox, checkedOffer(opening.manifest, speaker.participant), parts);
  } catch (error) {
    if (!(error instanceof SpoolFault)) throw error;
    if (error.code === "DiskFull") parts.coordinator.foundNoRoom?.(error.neededBytes);
    throw new TransportFault(codeOf[error.code], error.message);
  } finally {
    release();
  }
}

/** What a fault of the spool is to the agent. A closed upload was taken over by a newer one of the same bytes. */
const codeOf = {
  ManifestInvalid: "ManifestInvalid",
  ChunkInvalid: "ChunkInvalid",
  Incomplete: "ChunkInvalid",
  Closed: "Replaced",
  DiskFull: "DiskFull",
} as const;

async function receive(
  call: UploadCall,
  inbox: Inbox<UploadMessage>,
  offer: Offer,
  parts: CoordinationParts,
): Promise<void> {
  const { participant, work, manifest, root } = offer;
  const named = { root, byteLength: manifest.byteLength };
  const known = await recordedUpload(parts.journal, work, named);
  if (known?.state !== "received") {
    await parts.coordinator.admitUpload(participant, manifest);
    if (!known) await recordBegun(parts.journal, work, named);
    const file = await parts.uploads.take(() => receiveFile(call, inbox, manifest, parts));
    await parts.coordinator.uploaded(participant, manifest, file);
    await recordReceived(parts.journal, work, named);
  }
  await writeMessage(
    call,
    { message: { $case: "receipt", value: receiptOf(offer, parts) } } satisfies UploadReply,
    STALLED_MS,
  );
}

/** The agent sends nothing before it has the offset: until it is this upload's turn it costs no memory. */
async function receiveFile(
  call: UploadCall,
  inbox: Inbox<UploadMessage>,
  manifest: Manifest,
  { spool }: Pick<CoordinationParts, "spool">,
): Promise<string> {
  const upload = await spool.begin(manifest);
  try {
    await writeMessage(
      call,
      { message: { $case: "offset", value: upload.heldBytes } } satisfies UploadReply,
      STALLED_MS,
    );
    await receiveChunks(inbox, upload);
    return await upload.finish();
  } finally {
    await upload.close();
  }
}

async function receiveChunks(inbox: Inbox<UploadMessage>, upload: SpoolUpload): Promise<void> {
  while (upload.heldBytes < upload.byteLength) {
    const next = await inbox.next(STALLED_MS);
    if (next?.message?.$case !== "chunk") {
      throw new TransportFault(
        "ChunkInvalid",
        `The upload ended after ${upload.heldBytes} of ${upload.byteLength} bytes`,
      );
    }
    const { offset, data } = next.message.value;
    await upload.append(offset, data);
    giveBack(data);
  }
}

function checkedOffer(manifest: Manifest | undefined, participant: string): Offer {
  if (!manifest) throw new TransportFault("ManifestInvalid", "The upload has no manifest");
  const { work, leaves, byteLength, planHash, inputSignature } = manifest;
  checkWork(work, { participant, step: "upload", purpose: "delta" });
  const isWhole = byteLength > 0 && leaves.length === leafCount(byteLength);
  if (!isWhole || leaves.some((leaf) => leaf.length !== HASH_BYTES) || planHash.length !== HASH_BYTES) {
    throw new TransportFault(
      "ManifestInvalid",
      "The upload's manifest has a wrong number of leaves, or hashes of a wrong length",
    );
  }
  if (inputSignature.length !== 0 && inputSignature.length !== SIGNATURE_BYTES) {
    throw new TransportFault("ManifestInvalid", "The upload's input signature is not 64 bytes long");
  }
  return { participant, work, manifest, root: Buffer.from(merkleRoot(leaves)).toString("hex") };
}

function receiptOf({ work, manifest, root }: Offer, { planKey }: CoordinationParts) {
  const receipt = {
    work: { ...work, step: "receipt" },
    root: Buffer.from(root, "hex"),
    byteLength: manifest.byteLength,
  };
  return seal("receipt", Receipt.encode(receipt).finish(), planKey);
}
