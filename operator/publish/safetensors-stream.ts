/**
 * A safetensors file that arrives in pieces (the records of a sealed delta): header first, then values as they come.
 * Holds: nothing is kept but the header and the bytes of one incomplete value; the header is checked against the
 *   announced length before a value is handed out; a stream that ends early or runs over is a fault.
 * Does not: open files or decrypt.
 */
import { widen } from "./float.ts";
import {
  BYTES_PER_VALUE,
  HEADER_LIMITS,
  type HeaderLimits,
  headerLength,
  PREFIX_BYTES,
  parseHeader,
  SafetensorsFault,
  type SafetensorsHeader,
  type TensorInfo,
} from "./safetensors-header.ts";

export interface StreamReceiver {
  /** Once, before any value: the place to check names and shapes and to throw. */
  header(header: SafetensorsHeader): void;
  /** Values of one tensor from value number `at` on, as float32, valid until this returns. */
  values(tensor: TensorInfo, at: number, values: Float32Array): void;
}

export class SafetensorsStream {
  readonly #byteLength: number;
  readonly #receiver: StreamReceiver;
  readonly #limits: HeaderLimits;
  #pending: Uint8Array = new Uint8Array(0);
  #jsonBytes: number | undefined;
  #header: SafetensorsHeader | undefined;
  #tensor = 0;
  /** Bytes of the data section handed out. */
  #position = 0;
  #floats = new Float32Array(0);

  /** @param byteLength  of the whole file, known beforehand (from the sealed file's length) */
  constructor(byteLength: number, receiver: StreamReceiver, limits: HeaderLimits = HEADER_LIMITS) {
    this.#byteLength = byteLength;
    this.#receiver = receiver;
    this.#limits = limits;
  }

  /** @throws SafetensorsFault, and whatever the receiver throws */
  push(bytes: Uint8Array): void {
    let rest = this.#pending.length > 0 ? joined(this.#pending, bytes) : bytes;
    if (this.#header === undefined) rest = this.#readHeader(rest);
    if (this.#header !== undefined) rest = this.#readValues(this.#header, rest);
    this.#pending = rest.slice(); // a copy: the caller may use its buffer again
  }

  /** @throws SafetensorsFault "Truncated" when values are missing */
  end(): void {
    const header = this.#header;
    if (header === undefined || header.dataStart + this.#position !== header.byteLength) {
      throw new SafetensorsFault("Truncated", "the stream ended before the last tensor");
    }
  }

  #readHeader(bytes: Uint8Array): Uint8Array {
    if (bytes.length < PREFIX_BYTES) return bytes;
    this.#jsonBytes ??= headerLength(bytes, this.#limits);
    const dataStart = PREFIX_BYTES + this.#jsonBytes;
    if (bytes.length < dataStart) return bytes;
    this.#header = parseHeader(bytes.subarray(PREFIX_BYTES, dataStart), this.#byteLength, this.#limits);
    this.#receiver.header(this.#header);
    return bytes.subarray(dataStart);
  }

  #readValues(header: SafetensorsHeader, bytes: Uint8Array): Uint8Array {
    let rest = bytes;
    while (rest.length > 0) {
      const tensor = header.tensors[this.#tensor];
      if (tensor === undefined)
        throw new SafetensorsFault("OffsetsInvalid", "the stream goes on behind the last tensor");
      const width = BYTES_PER_VALUE[tensor.dtype];
      const usable = Math.min(rest.length, tensor.end - this.#position);
      const whole = usable - (usable % width);
      if (whole > 0) {
        const at = (this.#position - tensor.begin) / width;
        this.#receiver.values(tensor, at, this.#widened(tensor, rest.subarray(0, whole)));
        this.#position += whole;
        rest = rest.subarray(whole);
      }
      if (this.#position === tensor.end) this.#tensor++;
      else if (whole === 0) break;
    }
    return rest;
  }

  #widened(tensor: TensorInfo, bytes: Uint8Array): Float32Array {
    const count = bytes.length / BYTES_PER_VALUE[tensor.dtype];
    if (tensor.dtype === "F32" && bytes.byteOffset % 4 === 0) {
      return new Float32Array(bytes.buffer, bytes.byteOffset, count);
    }
    if (this.#floats.length < count) this.#floats = new Float32Array(count);
    const out = this.#floats.subarray(0, count);
    widen(tensor.dtype, bytes, out);
    return out;
  }
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}
