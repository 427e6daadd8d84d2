/** Real helper threads. */
import { randomBytes } from "node:crypto";
import { availableParallelism } from "node:os";
import { afterEach, describe, expect, test } from "vitest";
import { simdKernel } from "../../secagg/kernels/simd.ts";
import { applyMasks, type MaskKey } from "../../secagg/masks.ts";
import { Crew } from "./secure-sum-crew.ts";
import { PIECE_BYTES } from "./secure-sum-pieces.ts";

const keys: MaskKey[] = [1, -1, -1].map((sign) => ({ key: randomBytes(32), sign: sign as 1 | -1 }));
let crew: Crew;
afterEach(() => crew.close());

describe.each(["u32", "u16"] as const)("masks in the ring %s", (ring) => {
  test.each([
    { says: "less than a piece", byteLength: 1000 },
    { says: "whole pieces", byteLength: 2 * PIECE_BYTES },
    { says: "more pieces than threads, and a bit", byteLength: 9 * PIECE_BYTES + 44 },
  ])("come off $says by all threads as by one", async ({ byteLength }) => {
    crew = new Crew(simdKernel(), 1000);
    const [shared, alone] = [new SharedArrayBuffer(byteLength), new Uint8Array(randomBytes(byteLength))];
    new Uint8Array(shared).set(alone);
    applyMasks(alone, ring, keys, { from: 0, to: byteLength }, simdKernel());
    await crew.unmask(shared, ring, keys);
    expect(Buffer.from(new Uint8Array(shared)).equals(alone)).toBe(true);
    expect(crew.threads).toBe(Math.min(availableParallelism(), 4, Math.ceil((byteLength * keys.length) / 1000)));
  });
});

test("work that one thread does before another has begun is left to it", async () => {
  crew = new Crew(simdKernel());
  await crew.unmask(new SharedArrayBuffer(PIECE_BYTES), "u32", keys);
  expect(crew.threads).toBe(1);
});

test("threads are there for the next cohort, and nothing of the last one stays with them", async () => {
  const warnings: Error[] = [];
  const warned = (warning: Error) => warnings.push(warning);
  process.on("warning", warned);
  crew = new Crew(simdKernel(), 1000);
  // One more than the listeners that Node takes for a leak.
  for (let cohort = 0; cohort < 11; cohort++) await crew.unmask(new SharedArrayBuffer(1024), "u32", keys);
  await new Promise(setImmediate);
  process.off("warning", warned);
  expect(crew.threads).toBe(Math.min(availableParallelism(), 4));
  expect(warnings).toEqual([]);
});
