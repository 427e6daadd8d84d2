/** Real threads on real files: what goes in comes out when the masks are taken away, and nothing else does. */
import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { LEAF_BYTES, leavesOfFile, merkleRoot } from "../journal/merkle.ts";
import { writeScratchSafetensors } from "../publish/safetensors.ts";
import type { Plan } from "../round/plan.ts";
import { simdKernel } from "../secagg/kernels/simd.ts";
import { applyMasks, type MaskKey } from "../secagg/masks.ts";
import {
  decodeTail,
  PLAN_METRICS,
  planScales,
  RING_BYTES,
  type Ring,
  type VectorLayout,
  vectorLayout,
} from "../secagg/vector.ts";
import { makeMaskedVector } from "./masking.ts";

const RINGS: Ring[] = ["u32", "u16"];
const CLIP = 0.25;
const KEYS: MaskKey[] = ["self", "pair", "another"].map((name, i) => ({
  key: new Uint8Array(createHash("sha256").update(name).digest()),
  sign: i === 2 ? -1 : 1,
}));

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rondo-masking-"));
});
afterEach(() => rm(folder, { recursive: true }));

interface Work {
  ring: Ring;
  tensors: Array<{ name: string; shape: [number, number] }>;
  valueAt?: (tensor: string, i: number) => number;
  weight?: number;
  factor?: number;
  signal?: AbortSignal;
}

async function masked({ ring, tensors, valueAt = wave, weight = 255, factor, signal }: Work) {
  const deltaFile = join(folder, "delta");
  await writeScratchSafetensors(deltaFile, tensors, new Map(), function* ({ name, shape }) {
    yield Float32Array.from({ length: shape[0]! * shape[1]! }, (_, i) => valueAt(name, i));
  });
  const scales = planScales(
    ring,
    8,
    tensors.map(() => CLIP),
  );
  const plan = { tensors, secure: { ring, largestCohort: 8, scales, metrics: PLAN_METRICS } } as unknown as Plan;
  const layout = vectorLayout(plan);
  const outFile = join(folder, "masked");
  const metrics = { tokens: 1234, lossTokens: 2.5 * 1234 };
  const vector = await makeMaskedVector({
    ...{ layout, deltaFile, weight, metrics, outFile, bytesPerThread: 1 },
    keys: KEYS.map(({ key, sign }) => ({ key: key.slice(), sign })),
    ...(factor !== undefined && { factor }),
    ...(signal ? { signal } : {}),
  });
  return { layout, vector, bytes: await readFile(outFile) };
}

function unmasked(bytes: Buffer, { ring }: VectorLayout): Int32Array | Int16Array {
  const vector = new Uint8Array(bytes);
  const keys = KEYS.map(({ key, sign }): MaskKey => ({ key, sign: sign === 1 ? -1 : 1 }));
  applyMasks(vector, ring, keys, { from: 0, to: vector.length }, simdKernel());
  return ring === "u32" ? new Int32Array(vector.buffer) : new Int16Array(vector.buffer);
}

/** Some of it beyond the clip. */
const wave = (name: string, i: number) => Math.fround((0.3 * Math.sin(i) * (name.charCodeAt(0) - 96)) / 2);

describe.each(RINGS)("a masked vector in %s", (ring) => {
  const perLeaf = LEAF_BYTES / RING_BYTES[ring];

  test.each([
    { says: "less than a leaf", rows: [7, 1001] },
    { says: "several leaves, a border inside a tensor", rows: [perLeaf + 3, 2 * perLeaf - 11, 5] },
    { says: "a tail across a leaf's border", rows: [perLeaf - 8] },
    { says: "tensors that end with a leaf", rows: [perLeaf, perLeaf] },
  ])("of $says holds the rounded delta, weight and metrics under its masks", async ({ rows }) => {
    const tensors = rows.map((count, i) => ({ name: "abc"[i]!, shape: [count, 1] as [number, number] }));
    const { layout, vector, bytes } = await masked({ ring, tensors, weight: 200 });

    expect(vector.byteLength).toBe(layout.byteLength);
    const read = await leavesOfFile(join(folder, "masked"));
    expect({ ...vector, leaves: vector.leaves.map(text), root: text(vector.root) }).toEqual({
      byteLength: read.byteLength,
      leaves: read.leaves.map(text),
      root: text(merkleRoot(read.leaves)),
      maskingSeconds: expect.any(Number),
    });
    expect(await readdir(folder)).toEqual(["delta", "masked"]);

    const elements = unmasked(bytes, layout);
    const counted = { saturated: [] as number[], energy: [] as number[] };
    for (const { name, at, length, scale } of layout.tensors) {
      let [saturated, squares, worst] = [0, 0, 0];
      for (let i = 0; i < length; i++) {
        const x = wave(name, i);
        const clipped = Math.max(Math.min(x, CLIP), -CLIP);
        if (x !== clipped) saturated++;
        squares += clipped * clipped;
        worst = Math.max(worst, Math.abs(elements[at + i]! - clipped * (200 / 255) * scale));
      }
      expect(worst, `${name}: never more than a step beside the exact value`).toBeLessThan(1);
      counted.saturated.push(saturated);
      counted.energy.push((200 * squares) / length / CLIP ** 2);
    }
    const tail = decodeTail(layout, new Uint8Array(elements.slice(layout.weightAt).buffer));
    expect(tail.weight).toBe(200);
    expect(Object.fromEntries(tail.metrics)).toEqual({ tokens: 1234, lossTokens: 3085 });
    expect(tail.perTensor.get("saturated")).toEqual(counted.saturated);
    tail.perTensor.get("energy")!.forEach((energy, i) => {
      expect(energy).toBeCloseTo(counted.energy[i]!, 6);
    });
  });

  test("is rounded anew each time: made twice, it differs by single steps", async () => {
    const tensors = [{ name: "a", shape: [1000, 3] as [number, number] }];
    const valueAt = (_: string, i: number) => Math.fround((0.2 * i) / 3000);
    const first = await masked({ ring, tensors, valueAt });
    const second = await masked({ ring, tensors, valueAt });
    const [one, other] = [unmasked(first.bytes, first.layout), unmasked(second.bytes, second.layout)];
    const steps = Array.from(one.subarray(0, 3000), (element, i) => Math.abs(element - other[i]!));
    expect(Math.max(...steps)).toBe(1);
  });
});

test.each([
  { says: "NaN", bad: Number.NaN },
  { says: "infinity", bad: Number.NEGATIVE_INFINITY },
])("$says is refused with its tensor's name, and no file is left", async ({ bad }) => {
  const tensors = ["a", "b"].map((name) => ({ name, shape: [300_000, 1] as [number, number] }));
  const valueAt = (name: string, i: number) => (name === "b" && i === 123_456 ? bad : 0.1);
  await expect(masked({ ring: "u32", tensors, valueAt })).rejects.toMatchObject({
    code: "NonFinite",
    message: expect.stringMatching(/tensor b$/),
  });
  expect(await readdir(folder)).toEqual(["delta"]);
});

test("a delta that is longer than the plan's norm is shortened before it is clipped and counted", async () => {
  const tensors = [{ name: "a", shape: [1000, 1] as [number, number] }];
  const long = await masked({ ring: "u32", tensors, valueAt: (_, i) => (i === 0 ? 2 : 0.5), factor: 0.25 });
  const elements = unmasked(long.bytes, long.layout);
  const { scale } = long.layout.tensors[0]!;
  expect(Math.abs(elements[0]! - CLIP * scale)).toBeLessThan(2);
  expect(Math.abs(elements[1]! - 0.125 * scale)).toBeLessThan(2);
  const tail = decodeTail(long.layout, new Uint8Array(elements.slice(long.layout.weightAt).buffer));
  expect(tail.perTensor.get("saturated")).toEqual([1]);
  expect(tail.perTensor.get("energy")![0]).toBeCloseTo((255 * (1 + 999 / 4)) / 1000, 6);
});

test.each(RINGS)("what is subtracted in passing is the difference of both files in %s", async (ring) => {
  const tensors = [
    { name: "a", shape: [300_000, 1] as [number, number] },
    { name: "b", shape: [7, 1001] as [number, number] },
  ];
  const layout = (await masked({ ring, tensors, valueAt: () => 0 })).layout;
  const steps = (i: number) => (i % 1000) - 500;
  const step = (name: string) => 1 / layout.tensors.find((tensor) => tensor.name === name)!.scale;
  const parentFile = join(folder, "parent");
  const trainedFile = join(folder, "trained");
  await writeScratchSafetensors(parentFile, tensors, new Map(), ({ shape }) => [
    Float32Array.from({ length: shape[0]! * shape[1]! }, (_, i) => i % 3),
  ]);
  await writeScratchSafetensors(trainedFile, tensors, new Map([["more", "bytes in its header"]]), ({ name, shape }) => [
    Float32Array.from({ length: shape[0]! * shape[1]! }, (_, i) => (i % 3) + steps(i) * step(name)),
  ]);
  const vector = await makeMaskedVector({
    ...{ layout, deltaFile: trainedFile, minusFile: parentFile, weight: 255, outFile: join(folder, "both") },
    metrics: { tokens: 0, lossTokens: 0 },
    keys: KEYS.map(({ key, sign }) => ({ key: key.slice(), sign })),
  });
  const elements = unmasked(await readFile(join(folder, "both")), layout);
  for (const { name, at, length, scale } of layout.tensors)
    for (let i = 0; i < length; i++) {
      const [trained, parent] = [Math.fround((i % 3) + steps(i) * step(name)), i % 3];
      const exact = Math.fround(trained - parent) * scale;
      if (Math.abs(elements[at + i]! - exact) >= 1)
        throw new Error(`${name}[${i}] is ${elements[at + i]}, not ${exact}`);
    }
  expect(vector.byteLength).toBe(layout.byteLength);
});

test("a delta of other tensors than the plan's is not masked", async () => {
  const { layout } = await masked({ ring: "u32", tensors: [{ name: "a", shape: [10, 10] }] });
  const other = { ...layout, tensors: [{ ...layout.tensors[0]!, name: "b" }] };
  const options = { deltaFile: join(folder, "delta"), outFile: join(folder, "other"), weight: 1, metrics: {} };
  await expect(makeMaskedVector({ ...options, layout: other, keys: [] })).rejects.toThrow("not the plan's tensors");
});

test("ended half-way it leaves nothing", async () => {
  const tensors = [{ name: "a", shape: [4_000_000, 1] as [number, number] }];
  const ending = new AbortController();
  const work = masked({ ring: "u32", tensors, signal: ending.signal });
  setImmediate(() => ending.abort(new Error("the round was cancelled")));
  await expect(work).rejects.toThrow("the round was cancelled");
  expect(await readdir(folder)).toEqual(["delta"]);
});

const text = (hash: Uint8Array) => Buffer.from(hash).toString("hex");
