/**
 * The header of a safetensors file: parsed from untrusted bytes, formatted the way the reference writer does
 * (u64 little-endian length, JSON padded with spaces to 8 bytes, then the tensors' bytes without holes).
 * Holds: what parseHeader returns covers the data section exactly once; names are unique and no prototype keys;
 *   only F32, F16 and BF16; no size computed here exceeds 2^53.
 * Does not: touch files (safetensors.ts) or look at values (float.ts).
 */
import { duplicateKey } from "./json-keys.ts";

export type Dtype = "F32" | "F16" | "BF16";
export const BYTES_PER_VALUE: Record<Dtype, number> = { F32: 4, F16: 2, BF16: 2 };

export interface TensorSpec {
  name: string;
  dtype: Dtype;
  shape: readonly number[];
}

/** `begin` and `end` are bytes from the start of the data section. */
export interface TensorInfo extends TensorSpec {
  begin: number;
  end: number;
}

export interface SafetensorsHeader {
  /** In the order of their bytes. */
  tensors: TensorInfo[];
  metadata: ReadonlyMap<string, string>;
  /** Offset of the data section in the file. */
  dataStart: number;
  /** Of the whole file. */
  byteLength: number;
}

export type SafetensorsCode =
  | "Truncated"
  | "HeaderTooLarge"
  | "HeaderMalformed"
  | "DuplicateName"
  | "NameForbidden"
  | "DtypeUnsupported"
  | "OffsetsInvalid"
  | "TooManyTensors";

export class SafetensorsFault extends Error {
  readonly code: SafetensorsCode;
  constructor(code: SafetensorsCode, message: string) {
    super(message);
    this.name = "SafetensorsFault";
    this.code = code;
  }
}

export interface HeaderLimits {
  headerBytes: number;
  tensors: number;
}

/** 20,000 tensors are the plan's limit (round/plan.ts); each takes at most about 700 bytes of header with names of 512. */
export const HEADER_LIMITS: HeaderLimits = { headerBytes: 16 << 20, tensors: 20_000 };

/** The length of everything before the header's JSON. */
export const PREFIX_BYTES = 8;
const MAX_NAME = 512;
const MAX_RANK = 8;
const MAX_METADATA_ENTRIES = 256;
const FORBIDDEN = new Set(["__proto__", "constructor", "prototype"]);

/**
 * How many bytes of JSON follow the 8-byte prefix.
 * @throws SafetensorsFault "Truncated" | "HeaderTooLarge"
 */
export function headerLength(prefix: Uint8Array, limits: HeaderLimits = HEADER_LIMITS): number {
  if (prefix.length < PREFIX_BYTES) throw new SafetensorsFault("Truncated", "the file ends before its header");
  const length = new DataView(prefix.buffer, prefix.byteOffset, PREFIX_BYTES).getBigUint64(0, true);
  if (length > BigInt(limits.headerBytes)) {
    throw new SafetensorsFault(
      "HeaderTooLarge",
      `the header claims ${length} bytes; at most ${limits.headerBytes} are read`,
    );
  }
  return Number(length);
}

/**
 * @param json        the header's bytes, without the prefix
 * @param byteLength  of the whole file: the tensors must cover exactly the rest of it
 * @throws SafetensorsFault
 */
export function parseHeader(
  json: Uint8Array,
  byteLength: number,
  limits: HeaderLimits = HEADER_LIMITS,
): SafetensorsHeader {
  const dataStart = PREFIX_BYTES + json.length;
  if (byteLength < dataStart) throw new SafetensorsFault("Truncated", "the file ends inside its header");
  const entries = Object.entries(readObject(json));
  if (entries.length > limits.tensors + 1) {
    throw new SafetensorsFault("TooManyTensors", `${entries.length} tensors; at most ${limits.tensors} are read`);
  }
  const tensors: TensorInfo[] = [];
  let metadata: ReadonlyMap<string, string> = new Map();
  for (const [name, value] of entries) {
    if (name === "__metadata__") metadata = readMetadata(value);
    else tensors.push(readTensor(name, value));
  }
  tensors.sort((a, b) => a.begin - b.begin || a.end - b.end);
  checkContiguous(tensors, byteLength - dataStart);
  return { tensors, metadata, dataStart, byteLength };
}

/**
 * Orders tensors as the reference writer does (wider type first, then name) and gives prefix and JSON.
 * @returns `bytes`: everything before the data section; `header`: what parseHeader would say of the finished file
 */
export function formatHeader(
  tensors: readonly TensorSpec[],
  metadata: ReadonlyMap<string, string> = new Map(),
): { bytes: Uint8Array; header: SafetensorsHeader } {
  const ordered = [...tensors].sort(
    (a, b) => BYTES_PER_VALUE[b.dtype] - BYTES_PER_VALUE[a.dtype] || compareNames(a.name, b.name),
  );
  const placed: TensorInfo[] = [];
  let end = 0;
  for (const { name, dtype, shape } of ordered) {
    const begin = end;
    end += byteLengthOf(dtype, shape);
    placed.push({ name, dtype, shape: [...shape], begin, end });
  }
  const members: string[] = [];
  if (metadata.size > 0) {
    const sorted = [...metadata].sort(([a], [b]) => compareNames(a, b));
    members.push(`"__metadata__":${JSON.stringify(Object.fromEntries(sorted))}`);
  }
  for (const { name, dtype, shape, begin, end } of placed) {
    members.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [begin, end] })}`);
  }
  const json = Buffer.from(`{${members.join(",")}}`);
  const padded = Math.ceil(json.length / 8) * 8;
  const bytes = Buffer.alloc(PREFIX_BYTES + padded, " ");
  bytes.writeBigUInt64LE(BigInt(padded));
  json.copy(bytes, PREFIX_BYTES);
  const header = { tensors: placed, metadata, dataStart: bytes.length, byteLength: bytes.length + end };
  return { bytes, header };
}

/** By the bytes of the names, as the plan's table orders them; strings compare by UTF-16 units, which differs. */
export function compareNames(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

export function valueCount(shape: readonly number[]): number {
  return shape.reduce((product, side) => product * side, 1);
}

export function byteLengthOf(dtype: Dtype, shape: readonly number[]): number {
  return valueCount(shape) * BYTES_PER_VALUE[dtype];
}

function readObject(json: Uint8Array): Record<string, unknown> {
  let text: string;
  let value: unknown;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(json);
    value = text.startsWith("{") ? JSON.parse(text) : undefined;
  } catch {
    throw malformed("the header is not JSON");
  }
  if (!isObject(value)) throw malformed("the header is not a JSON object");
  const twice = duplicateKey(text);
  if (twice !== undefined) {
    throw new SafetensorsFault("DuplicateName", `the header names ${shown(twice)} twice`);
  }
  return value;
}

function readTensor(name: string, value: unknown): TensorInfo {
  if (name.length === 0 || name.length > MAX_NAME || FORBIDDEN.has(name)) {
    throw new SafetensorsFault("NameForbidden", `${shown(name)} is not a name for a tensor`);
  }
  if (!isObject(value)) throw malformed(`the entry of ${shown(name)} is not an object`);
  const { dtype, shape, data_offsets: offsets, ...rest } = value;
  if (Object.keys(rest).length > 0) throw malformed(`the entry of ${shown(name)} has unknown fields`);
  if (typeof dtype !== "string") throw malformed(`${shown(name)} has no dtype`);
  if (!isDtype(dtype)) {
    throw new SafetensorsFault("DtypeUnsupported", `${shown(name)} is ${shown(dtype)}; F32, F16 and BF16 are read`);
  }
  if (!isSizes(shape) || shape.length > MAX_RANK) throw malformed(`the shape of ${shown(name)} is not a list of sizes`);
  if (!isSizes(offsets) || offsets.length !== 2) throw malformed(`the offsets of ${shown(name)} are not two sizes`);
  const [begin, end] = offsets as [number, number];
  const bytes = byteLengthOf(dtype, shape);
  if (!Number.isSafeInteger(bytes) || end - begin !== bytes) {
    throw new SafetensorsFault(
      "OffsetsInvalid",
      `${shown(name)} has ${end - begin} bytes where its shape needs ${bytes}`,
    );
  }
  return { name, dtype, shape, begin, end };
}

function checkContiguous(tensors: readonly TensorInfo[], dataBytes: number): void {
  let end = 0;
  for (const tensor of tensors) {
    if (tensor.begin !== end) {
      throw new SafetensorsFault("OffsetsInvalid", `${shown(tensor.name)} begins at ${tensor.begin} and not at ${end}`);
    }
    end = tensor.end;
  }
  if (end > dataBytes) {
    throw new SafetensorsFault("Truncated", `the tensors need ${end} bytes and the file holds ${dataBytes}`);
  }
  if (end < dataBytes) {
    throw new SafetensorsFault("OffsetsInvalid", `${dataBytes - end} bytes of the file belong to no tensor`);
  }
}

function readMetadata(value: unknown): ReadonlyMap<string, string> {
  if (!isObject(value)) throw malformed("__metadata__ is not an object");
  const entries = Object.entries(value);
  if (entries.length > MAX_METADATA_ENTRIES) throw malformed(`__metadata__ has ${entries.length} entries`);
  const metadata = new Map<string, string>();
  for (const [key, text] of entries) {
    if (typeof text !== "string") throw malformed(`__metadata__ ${shown(key)} is not a string`);
    metadata.set(key, text);
  }
  return metadata;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isDtype(value: string): value is Dtype {
  return Object.hasOwn(BYTES_PER_VALUE, value);
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}

/** Names come from strangers and end in a status message: quoted, escaped, short. */
function shown(name: string): string {
  return JSON.stringify(name.length > 120 ? `${name.slice(0, 117)}...` : name);
}

function malformed(message: string): SafetensorsFault {
  return new SafetensorsFault("HeaderMalformed", message);
}
