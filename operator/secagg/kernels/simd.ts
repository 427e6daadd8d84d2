/** The kernels in WebAssembly with 128-bit lanes (assembly/ring.ts): what runs. Each call of simdKernel() has a memory of its own. */
import { RING_BYTES } from "../vector.ts";
import { RING_WASM } from "./generated/ring.wasm.ts";
import { type Kernel, MEMORY_BYTES, PLACES } from "./kernel.ts";

type AddTo = (target: number, source: number, byteLength: number) => void;

interface Exports {
  addU32: AddTo;
  subtractU32: AddTo;
  addU16: AddTo;
  subtractU16: AddTo;
  quantise(...places: number[]): void;
}

/** The types of Node say nothing of this global. */
const { Module, Memory, Instance } = (globalThis as unknown as { WebAssembly: WebAssemblyGlobal }).WebAssembly;
interface WebAssemblyGlobal {
  Module: new (bytes: Uint8Array) => object;
  Memory: new (pages: { initial: number }) => { buffer: ArrayBuffer };
  Instance: new (module: object, imports: object) => { exports: unknown };
}

const PAGE_BYTES = 1 << 16;
let compiled: object | undefined;

export function simdKernel(): Kernel {
  compiled ??= new Module(Buffer.from(RING_WASM, "base64"));
  const pages = new Memory({ initial: MEMORY_BYTES / PAGE_BYTES });
  const instance = new Instance(compiled, { env: { memory: pages } });
  const { addU32, addU16, subtractU32, subtractU16, quantise } = instance.exports as Exports;
  return {
    name: "simd",
    memory: new Uint8Array(pages.buffer),
    add(ring, target, source, byteLength) {
      if (ring === "u32") addU32(target, source, byteLength);
      else addU16(target, source, byteLength);
    },
    subtract(ring, target, source, byteLength) {
      if (ring === "u32") subtractU32(target, source, byteLength);
      else subtractU16(target, source, byteLength);
    },
    quantise(ring, first, count, { factor, clip, gain, largest }) {
      const width = RING_BYTES[ring];
      const places = [PLACES.block + width * first, PLACES.values + 4 * first, PLACES.draws + 4 * first, PLACES.tally];
      quantise(...places, count, width, factor, clip, gain, largest);
    },
  };
}
