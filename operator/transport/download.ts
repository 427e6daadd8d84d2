/**
 * The operator's side of Download: an adapter's file by its digest, from an offset (protocol.md).
 * Holds: one piece in memory, however slow the reader.
 */
import { open } from "node:fs/promises";
import type { ServerWritableStream } from "@grpc/grpc-js";
import { readFully } from "../journal/merkle.ts";
import { authenticate } from "./authenticate.ts";
import { openMessage } from "./envelope.ts";
import { TransportFault } from "./faults.ts";
import { type DownloadChunk, DownloadOpening, type DownloadRequest } from "./generated/rondo.v1.ts";
import { writeMessage } from "./inbox.ts";
import { MOST_REPORT_BYTES, STALLED_MS } from "./limits.ts";
import type { CoordinationParts } from "./server.ts";

/**
 * A round begins with a download by everybody, and a piece is in memory four times on its way: file, message, HTTP/2, TLS. A hundred of 1 MiB at
 * once took 250 MiB, which malloc then kept; the agent takes pieces of any size.
 */
const PIECE_BYTES = 64 * 2 ** 10;

export type DownloadCall = ServerWritableStream<DownloadRequest, DownloadChunk>;

/** Serves one download to its end. @throws TransportFault with which the stream is to end */
export async function serveDownload(call: DownloadCall, parts: CoordinationParts): Promise<void> {
  const speaker = authenticate(call, { coordinator: parts.coordinator, realm: parts.realm, nowMs: parts.now() });
  const expected = { kind: "download", publicKey: speaker.identity, mostBytes: MOST_REPORT_BYTES } as const;
  const opening = openMessage(call.request.opening, expected, DownloadOpening);
  const session = parts.sessions.byChallenge(speaker.participant, opening.challenge);
  if (opening.participant !== speaker.participant) {
    throw new TransportFault("MessageInvalid", "The request names another participant than its certificate");
  }
  const adapter = await parts.coordinator.adapter(speaker.participant, opening.digest);
  if (!adapter)
    throw new TransportFault("DigestUnknown", "The operator has no adapter of this digest for this participant");
  if (opening.offset > adapter.byteLength) {
    throw new TransportFault(
      "MessageInvalid",
      `The adapter has ${adapter.byteLength} bytes, fewer than the offset asked for`,
    );
  }
  let ended: TransportFault | undefined;
  const release = session.onEnd((fault) => {
    ended = fault;
  });
  try {
    const piece = { ...adapter, offset: opening.offset, ended: () => ended };
    await parts.downloads.take(() => sendFile(call, piece));
  } finally {
    release();
  }
}

interface Piece {
  file: string;
  byteLength: number;
  offset: number;
  ended: () => TransportFault | undefined;
}

async function sendFile(call: DownloadCall, { file, byteLength, offset, ended }: Piece): Promise<void> {
  const handle = await open(file, "r");
  try {
    const buffer = Buffer.alloc(PIECE_BYTES);
    let at = offset;
    do {
      const fault = ended();
      if (fault) throw fault;
      const data = buffer.subarray(0, Math.min(PIECE_BYTES, byteLength - at));
      if ((await readFully(handle, data, at)) < data.length)
        throw new Error(`${file} is shorter than ${byteLength} bytes`);
      await writeMessage(call, { offset: at, total: byteLength, data } satisfies DownloadChunk, STALLED_MS);
      at += data.length;
    } while (at < byteLength);
  } finally {
    await handle.close();
  }
}
