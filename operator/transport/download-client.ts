/**
 * The agent's side of Download: one try of fetching an adapter over one connection, continuing a partial file.
 * Holds: the destination appears complete, with the digest asked for, synced, or not at all; one chunk in memory.
 */
import { createHash, type Hash } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { effect } from "../fault-injection.ts";
import { LEAF_BYTES, readFully } from "../journal/merkle.ts";
import type { Connection, ConnectionParts } from "./connection.ts";
import { seal } from "./envelope.ts";
import { fromServiceError, TransportFault } from "./faults.ts";
import { type DownloadChunk, DownloadOpening } from "./generated/rondo.v1.ts";
import { Inbox } from "./inbox.ts";
import { STALLED_MS } from "./limits.ts";

export interface DownloadTry {
  federation: string;
  /** SHA-256 of the file, 32 bytes */
  digest: Uint8Array;
  destination: string;
  expectedBytes: number;
  signal: AbortSignal;
}

/** Whether the destination is there already, complete and right. */
export async function isDownloaded({ destination, digest, expectedBytes }: DownloadTry): Promise<boolean> {
  const file = await open(destination, "r").catch(() => undefined);
  if (!file) return false;
  try {
    const { hash, length } = await hashed(file, expectedBytes);
    return length === expectedBytes && (await file.stat()).size === expectedBytes && hash.digest().equals(digest);
  } finally {
    await file.close();
  }
}

/** @throws TransportFault; its `retry` says whether another try can succeed */
export async function downloadOnce(
  connection: Connection,
  parts: ConnectionParts,
  download: DownloadTry,
): Promise<void> {
  const partial = `${download.destination}.partial`;
  const file = await open(partial, constants.O_RDWR | constants.O_CREAT, 0o600);
  try {
    const held = await hashed(file, download.expectedBytes);
    await receive(connection, parts, { ...download, file, ...held });
    if (!held.hash.digest().equals(download.digest)) {
      await rm(partial, { force: true });
      effect("file", `remove ${basename(partial)}`);
      throw new TransportFault("DigestDiffers", "The downloaded adapter does not have the digest that the plan names");
    }
    await file.truncate(download.expectedBytes);
    await file.sync();
    effect("file", `write ${basename(partial)}`);
  } finally {
    await file.close();
  }
  await rename(partial, download.destination);
  const folder = await open(dirname(download.destination), "r");
  await folder.sync().finally(() => folder.close());
  effect("file", `rename ${basename(download.destination)}`);
}

async function receive(
  connection: Connection,
  { invitation, identity }: ConnectionParts,
  { file, hash, length, ...download }: DownloadTry & { file: FileHandle; hash: Hash; length: number },
): Promise<void> {
  const { federation, digest, expectedBytes, signal } = download;
  const body = DownloadOpening.encode({
    challenge: connection.challenge,
    federation,
    participant: invitation.participant,
    digest,
    offset: length,
  }).finish();
  const call = connection.channel.download({ opening: seal("download", body, identity) });
  const inbox = new Inbox<DownloadChunk>(call);
  const stop = () => inbox.fail(new TransportFault("Stopped", "The download was given up"));
  const lost = () => inbox.fail(new TransportFault("Unavailable", "The connection ended"));
  signal.addEventListener("abort", stop, { once: true });
  connection.ended.addEventListener("abort", lost, { once: true });
  try {
    if (signal.aborted) stop();
    let at = length;
    while (at < expectedBytes) {
      const chunk = await inbox.next(STALLED_MS);
      if (!chunk) throw new TransportFault("Unavailable", `The download ended after ${at} of ${expectedBytes} bytes`);
      if (chunk.offset !== at || chunk.total !== expectedBytes || at + chunk.data.length > expectedBytes) {
        throw new TransportFault("MessageInvalid", "The adapter has another length than the plan says");
      }
      hash.update(chunk.data);
      await writeFully(file, chunk.data, at);
      at += chunk.data.length;
    }
  } catch (error) {
    throw fromServiceError(error, invitation.endpoint);
  } finally {
    signal.removeEventListener("abort", stop);
    connection.ended.removeEventListener("abort", lost);
    call.cancel();
  }
}

/** A disk that is nearly full takes a part and says so by the count alone; what the hash has seen would then not be in the file. */
async function writeFully(file: FileHandle, data: Uint8Array, at: number): Promise<void> {
  for (let done = 0; done < data.length; ) {
    done += (await file.write(data, done, data.length - done, at + done)).bytesWritten;
  }
}

/** The hash of what is there, at most `mostBytes` of it, ready to go on. */
async function hashed(file: FileHandle, mostBytes: number): Promise<{ hash: Hash; length: number }> {
  const hash = createHash("sha256");
  const buffer = Buffer.allocUnsafe(LEAF_BYTES);
  let length = 0;
  while (length < mostBytes) {
    const read = await readFully(file, buffer.subarray(0, Math.min(LEAF_BYTES, mostBytes - length)), length);
    if (read === 0) break;
    hash.update(buffer.subarray(0, read));
    length += read;
  }
  return { hash, length };
}
