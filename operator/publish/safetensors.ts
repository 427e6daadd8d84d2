/**
 * Safetensors files, streamed: read chunk by chunk as float32, written chunk by chunk under a temporary name.
 * Holds: memory is one chunk, whatever the file's size; a written file appears under its name complete and fsynced, or not at all.
 * Does not: trust a file's header (safetensors-header.ts checks it before a value is read).
 */
import { createHash } from "node:crypto";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { basename } from "node:path";
import { effect } from "../fault-injection.ts";
import { widen } from "./float.ts";
import {
  BYTES_PER_VALUE,
  formatHeader,
  HEADER_LIMITS,
  type HeaderLimits,
  headerLength,
  PREFIX_BYTES,
  parseHeader,
  SafetensorsFault,
  type SafetensorsHeader,
  type TensorInfo,
  type TensorSpec,
  valueCount,
} from "./safetensors-header.ts";

/** 1 MiB of float32, the size of a chunk on the wire (protocol.md). */
export const CHUNK_VALUES = 1 << 18;

export interface SafetensorsFile extends AsyncDisposable {
  readonly header: SafetensorsHeader;
  /** The tensor of that name; undefined: none. */
  tensor(name: string): TensorInfo | undefined;
  /** Fills `out` with values of the tensor from value number `at` on, as float32. */
  read(tensor: TensorInfo, at: number, out: Float32Array): Promise<void>;
  /** All values of a tensor as float32, at most `maxValues` a time. Each chunk lies in the same buffer: use it before the next. */
  chunks(tensor: TensorInfo, maxValues?: number): AsyncGenerator<{ at: number; values: Float32Array }>;
  close(): Promise<void>;
}

/** @throws SafetensorsFault */
export async function openSafetensors(path: string, limits: HeaderLimits = HEADER_LIMITS): Promise<SafetensorsFile> {
  const file = await open(path, "r");
  try {
    const { size } = await file.stat();
    const length = headerLength(await readExactly(file, 0, Math.min(size, PREFIX_BYTES)), limits);
    if (PREFIX_BYTES + length > size) throw new SafetensorsFault("Truncated", "the file ends inside its header");
    const header = parseHeader(await readExactly(file, PREFIX_BYTES, length), size, limits);
    return reader(file, header);
  } catch (error) {
    await file.close();
    throw error;
  }
}

function reader(file: FileHandle, header: SafetensorsHeader): SafetensorsFile {
  const byName = new Map(header.tensors.map((tensor) => [tensor.name, tensor]));
  let scratch = new Uint8Array(0);

  async function read(tensor: TensorInfo, at: number, out: Float32Array): Promise<void> {
    const width = BYTES_PER_VALUE[tensor.dtype];
    const position = header.dataStart + tensor.begin + at * width;
    if (at < 0 || at + out.length > valueCount(tensor.shape)) throw new RangeError("outside of the tensor");
    if (tensor.dtype === "F32") {
      await fillExactly(file, position, new Uint8Array(out.buffer, out.byteOffset, out.byteLength));
      return;
    }
    if (scratch.length < out.length * width) scratch = new Uint8Array(out.length * width);
    const bytes = scratch.subarray(0, out.length * width);
    await fillExactly(file, position, bytes);
    widen(tensor.dtype, bytes, out);
  }

  return {
    header,
    tensor: (name) => byName.get(name),
    read,
    async *chunks(tensor, maxValues = CHUNK_VALUES) {
      const total = valueCount(tensor.shape);
      const buffer = new Float32Array(Math.min(total, maxValues));
      for (let at = 0; at < total; at += buffer.length) {
        const values = buffer.subarray(0, Math.min(buffer.length, total - at));
        await read(tensor, at, values);
        yield { at, values };
      }
    },
    close: () => file.close(),
    [Symbol.asyncDispose]: () => file.close(),
  };
}

/** The float32 values of one tensor, in order, in chunks of any length. */
export type TensorValues = (tensor: TensorInfo) => AsyncIterable<Float32Array> | Iterable<Float32Array>;

/**
 * Writes F32 tensors in the reference writer's order (ascending by the bytes of the names).
 * @param valuesOf  asked once per tensor, in that order; a chunk is written before the next one is asked for
 * @returns size and SHA-256 (hex) of the file
 */
export async function writeSafetensors(
  path: string,
  tensors: ReadonlyArray<Pick<TensorSpec, "name" | "shape">>,
  metadata: ReadonlyMap<string, string>,
  valuesOf: TensorValues,
): Promise<{ byteLength: number; sha256: string }> {
  const hash = createHash("sha256");
  const partial = `${path}.partial`;
  const byteLength = await writeTensors(partial, { tensors, metadata, valuesOf, seen: (bytes) => hash.update(bytes) });
  await rename(partial, path);
  effect("file", `rename ${basename(path)}`);
  return { byteLength, sha256: hash.digest("hex") };
}

/**
 * The same for a file that is read once and removed, and made again after a crash: neither hashed nor synced, each of which
 * costs as much as the arithmetic. Under `path` it is complete unless the machine crashed.
 */
export async function writeScratchSafetensors(
  path: string,
  tensors: ReadonlyArray<Pick<TensorSpec, "name" | "shape">>,
  metadata: ReadonlyMap<string, string>,
  valuesOf: TensorValues,
): Promise<{ byteLength: number }> {
  const partial = `${path}.partial`;
  const byteLength = await writeTensors(partial, { tensors, metadata, valuesOf });
  await rename(partial, path);
  effect("file", `rename ${basename(path)}`);
  return { byteLength };
}

interface Contents {
  tensors: ReadonlyArray<Pick<TensorSpec, "name" | "shape">>;
  metadata: ReadonlyMap<string, string>;
  valuesOf: TensorValues;
  /** Gets all bytes in order; then the file is also synced. */
  seen?: (bytes: Uint8Array) => void;
}

/** @returns the file's size; removes the file on a fault */
async function writeTensors(path: string, { tensors, metadata, valuesOf, seen }: Contents): Promise<number> {
  const { bytes, header } = formatHeader(
    tensors.map(({ name, shape }) => ({ name, shape, dtype: "F32" })),
    metadata,
  );
  try {
    await using file = await open(path, "w", 0o600);
    const append = async (chunk: Uint8Array) => {
      seen?.(chunk);
      await writeExactly(file, chunk);
    };
    await append(bytes);
    for (const tensor of header.tensors) {
      let written = 0;
      for await (const values of valuesOf(tensor)) {
        written += values.byteLength;
        if (written > tensor.end - tensor.begin) break;
        await append(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
      }
      if (written !== tensor.end - tensor.begin) throw new RangeError(`wrong number of values for ${tensor.name}`);
    }
    if (seen) await file.sync();
    effect("file", `write ${basename(path)}`);
  } catch (error) {
    await rm(path, { force: true });
    effect("file", `remove ${basename(path)}`);
    throw error;
  }
  return header.byteLength;
}

/** A copy with every value as F32, in the reference writer's order: the form that rounds work on. */
export async function copyAsFloat32(
  from: string,
  to: string,
  metadata: ReadonlyMap<string, string> = new Map([["format", "pt"]]),
): Promise<{ byteLength: number; sha256: string }> {
  await using source = await openSafetensors(from);
  return await writeSafetensors(to, source.header.tensors, metadata, async function* (tensor) {
    for await (const { values } of source.chunks(source.tensor(tensor.name)!)) yield values;
  });
}

async function readExactly(file: FileHandle, position: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  await fillExactly(file, position, bytes);
  return bytes;
}

async function fillExactly(file: FileHandle, position: number, bytes: Uint8Array): Promise<void> {
  let done = 0;
  while (done < bytes.length) {
    const { bytesRead } = await file.read(bytes, done, bytes.length - done, position + done);
    if (bytesRead === 0) throw new SafetensorsFault("Truncated", "the file became shorter while it was read");
    done += bytesRead;
  }
}

async function writeExactly(file: FileHandle, bytes: Uint8Array): Promise<void> {
  let done = 0;
  while (done < bytes.length) done += (await file.write(bytes, done, bytes.length - done)).bytesWritten;
}
