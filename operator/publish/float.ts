/**
 * The bytes of safetensors values as float32.
 * Holds: F16 and BF16 widen exactly (subnormals, infinities and NaN included); bytes are little-endian, as the format is.
 * Does not: narrow (Rondo computes and publishes in float32), or ask whether values are finite (aggregation/finite.ts).
 */
import { BYTES_PER_VALUE, type Dtype } from "./safetensors-header.ts";

/**
 * @param bytes  whole values; any alignment
 * @param out    receives them; its length is the number of values
 */
export function widen(dtype: Dtype, bytes: Uint8Array, out: Float32Array): void {
  if (bytes.length !== out.length * BYTES_PER_VALUE[dtype]) {
    throw new RangeError(`${bytes.length} bytes of ${dtype} are not ${out.length} values`);
  }
  if (dtype === "F32") {
    new Uint8Array(out.buffer, out.byteOffset, out.byteLength).set(bytes);
    return;
  }
  const halves = alignedHalves(bytes);
  const bits = new Uint32Array(out.buffer, out.byteOffset, out.length);
  if (dtype === "BF16") {
    for (let i = 0; i < halves.length; i++) bits[i] = halves[i]! << 16;
    return;
  }
  const table = float16Table();
  for (let i = 0; i < halves.length; i++) bits[i] = table[halves[i]!]!;
}

function alignedHalves(bytes: Uint8Array): Uint16Array {
  if (bytes.byteOffset % 2 === 0) return new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2);
  return new Uint16Array(bytes.slice().buffer);
}

let float16Bits: Uint32Array | undefined;

/** float32 bits of each of the 65,536 half floats: 256 KiB, made on first use because most adapters are F32. */
function float16Table(): Uint32Array {
  if (float16Bits !== undefined) return float16Bits;
  const table = new Uint32Array(65_536);
  const value = new Float32Array(1);
  const bits = new Uint32Array(value.buffer);
  for (let half = 0; half < table.length; half++) {
    const sign = (half & 0x8000) << 16;
    const exponent = (half >> 10) & 0x1f;
    const fraction = half & 0x3ff;
    if (exponent === 0x1f) table[half] = sign | 0x7f80_0000 | (fraction << 13);
    else if (exponent !== 0)
      table[half] = sign | ((exponent + 112) << 23) | (fraction << 13); // bias 127 - 15
    else {
      value[0] = fraction * 2 ** -24; // zero and subnormals
      table[half] = sign | bits[0]!;
    }
  }
  float16Bits = table;
  return table;
}
