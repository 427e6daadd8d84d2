/** What one core does with masks, beside what AES-256-CTR alone reaches on it, and where the rest of the time goes. */
import { execFileSync } from "node:child_process";
import { createCipheriv, randomBytes } from "node:crypto";
import { BLOCK_BYTES, PLACES } from "../../../operator/secagg/kernels/kernel.ts";
import { simdKernel } from "../../../operator/secagg/kernels/simd.ts";
import { applyMasks, CIPHER, Keystream, type MaskKey } from "../../../operator/secagg/masks.ts";
import { median } from "../report.ts";

const BLOCKS = 2000;
const REPEATS = 7;

export interface Throughput {
  /** GB/s of keystream. */
  openssl: number;
  masks: number;
  /** Microseconds per block of 64 KiB and key, in the order in which they happen. */
  profile: Array<{ part: string; microseconds: number }>;
}

/** Interleaved, so that a machine that becomes busier or quieter changes all of it. */
export function throughput(): Throughput {
  const samples = Array.from({ length: REPEATS }, () => ({
    openssl: opensslGBs(),
    masks: masksGBs(),
    profile: profile(),
  }));
  const of = (pick: (sample: (typeof samples)[number]) => number) => median(samples.map(pick));
  return {
    openssl: of(({ openssl }) => openssl),
    masks: of(({ masks }) => masks),
    profile: samples[0]!.profile.map(({ part }, i) => ({
      part,
      microseconds: of((sample) => sample.profile[i]!.microseconds),
    })),
  };
}

function opensslGBs(): number {
  const args = ["speed", "-mr", "-seconds", "1", "-bytes", String(BLOCK_BYTES), "-evp", CIPHER];
  const out = execFileSync("openssl", args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  const bytesPerSecond = Number(/^\+F:\d+:[^:]+:([\d.]+)/m.exec(out)?.[1]);
  return bytesPerSecond / 1e9;
}

/** CPU time of this thread in milliseconds: what `openssl speed` counts, too, and the same on a machine that is shared. */
function cpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

/** Masks of 32 keys on a vector that threads could share, by one thread. */
function masksGBs(): number {
  const vector = new Uint8Array(new SharedArrayBuffer(16 << 20));
  const keys: MaskKey[] = Array.from({ length: 32 }, (_, i) => ({ key: randomBytes(32), sign: i % 2 === 0 ? 1 : -1 }));
  const kernel = simdKernel();
  applyMasks(vector, "u32", keys, { from: 0, to: 1 << 20 }, kernel);
  const start = cpuMs();
  applyMasks(vector, "u32", keys, { from: 0, to: vector.length }, kernel);
  return (keys.length * vector.length) / (cpuMs() - start) / 1e6;
}

function profile(): Throughput["profile"] {
  const kernel = simdKernel();
  const cipher = createCipheriv(CIPHER, randomBytes(32), Buffer.alloc(16));
  const zeros = new Uint8Array(BLOCK_BYTES);
  const update = timed(() => {
    cipher.update(zeros).buffer.transfer(0);
  });
  const stream = new Keystream(randomBytes(32), 0);
  const other = kernel.memory.subarray(PLACES.other, PLACES.other + BLOCK_BYTES);
  const next = timed(() => stream.next(other));
  const add = timed(() => kernel.add("u32", PLACES.block, PLACES.other, BLOCK_BYTES));
  return [
    { part: "cipher.update, its buffer given back", microseconds: update },
    { part: "copy into the kernel's memory", microseconds: next - update },
    { part: "add in the ring", microseconds: add },
  ];
}

function timed(step: () => void): number {
  for (let i = 0; i < BLOCKS / 10; i++) step();
  const start = cpuMs();
  for (let i = 0; i < BLOCKS; i++) step();
  return ((cpuMs() - start) * 1000) / BLOCKS;
}
