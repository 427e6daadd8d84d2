/**
 * The Coordination service with its two heavy messages, the chunks of Upload and Download, serialised in one copy. The generated code
 * copies a chunk four times into new buffers; at 1 MiB each that made garbage collection the largest part of a round's CPU time.
 * Holds: the bytes are those of the generated code (chunk-codec.test.ts), and are made before write() returns, so that the caller may use
 * its buffer again once the write has been called back.
 */
import { makeGenericClientConstructor } from "@grpc/grpc-js";
import {
  CoordinationService,
  type DownloadChunk,
  type CoordinationClient as GeneratedClient,
  type UploadChunk,
  type UploadMessage,
} from "./generated/rondo.v1.ts";

export const coordinationService: typeof CoordinationService = {
  ...CoordinationService,
  upload: {
    ...CoordinationService.upload,
    requestSerialize: (value: UploadMessage) =>
      value.message?.$case === "chunk"
        ? uploadChunkBytes(value.message.value)
        : CoordinationService.upload.requestSerialize(value),
  },
  download: { ...CoordinationService.download, responseSerialize: downloadChunkBytes },
};

export const CoordinationClient = makeGenericClientConstructor(
  coordinationService,
  "rondo.v1.Coordination",
) as unknown as typeof GeneratedClient;

// Tags: field number << 3 | wire type (0 varint, 2 length-delimited).

function uploadChunkBytes({ offset, data }: UploadChunk): Buffer {
  const head = [...varintField(0x08, offset), ...lengthField(0x12, data)];
  return withData([0x12, ...varint(head.length + data.length), ...head], data);
}

function downloadChunkBytes({ offset, total, data }: DownloadChunk): Buffer {
  return withData([...varintField(0x08, offset), ...varintField(0x10, total), ...lengthField(0x1a, data)], data);
}

function withData(head: number[], data: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(head.length + data.length);
  bytes.set(head);
  bytes.set(data, head.length);
  return bytes;
}

/** Proto3 leaves a zero out. */
function varintField(tag: number, value: number): number[] {
  return value === 0 ? [] : [tag, ...varint(value)];
}

function lengthField(tag: number, data: Uint8Array): number[] {
  return data.length === 0 ? [] : [tag, ...varint(data.length)];
}

/** Up to 2^53: by division, since shifts are for 32 bits. */
function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  while (rest > 0x7f) {
    bytes.push((rest % 0x80) | 0x80);
    rest = Math.floor(rest / 0x80);
  }
  bytes.push(rest);
  return bytes;
}
