/** The real worker thread on real sealed files. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openSafetensors, writeSafetensors } from "../../publish/safetensors.ts";
import { generateRoundKeys, sealFile } from "../../transport/sealing.ts";
import { RoundSum } from "./sum.ts";
import type { SumListener } from "./sum-threads.ts";

const prefix = "base_model.model.model.layers.0.self_attn.q_proj";
// 1.3 MB: the sealed file has two records, and a value lies across their border.
const TENSORS = [
  { name: `${prefix}.lora_A.weight`, shape: [3, 40_000] as [number, number] },
  { name: `${prefix}.lora_B.weight`, shape: [70_001, 3] as [number, number] },
];
const planHash = new Uint8Array(32).fill(7);

let folder: string;
let keys: Awaited<ReturnType<typeof generateRoundKeys>>;
let sum: RoundSum;
let changed: PromiseWithResolvers<void>;
/** Why threads ended. */
let tries: string[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rondo-sum-"));
  keys = await generateRoundKeys();
  changed = Promise.withResolvers<void>();
  tries = [];
  sum = open();
});
afterEach(async () => {
  await sum.close();
  await rm(folder, { recursive: true, force: true });
});

function open(): RoundSum {
  const options = { tensors: TENSORS, planHash, privateKey: keys.privateKey, clipNorm: 1e6 };
  const listener: SumListener = {
    changed() {
      changed.resolve();
      changed = Promise.withResolvers<void>();
    },
    diskFull: () => {},
    again: (problem) => tries.push(problem),
  };
  return new RoundSum(options, listener);
}

interface Delta {
  value?: number;
  weight?: string;
  tensors?: typeof TENSORS;
  participant?: string;
}

async function sealed(name: string, { value = 1, weight = "255", tensors = TENSORS, participant = name }: Delta = {}) {
  const plain = join(folder, `${name}.plain`);
  await writeSafetensors(plain, tensors, new Map([["weight", weight]]), function* ({ shape }) {
    yield new Float32Array(shape[0]! * shape[1]!).fill(value);
  });
  const file = join(folder, name);
  await sealFile(plain, file, { publicKey: keys.publicKey, planHash, participant });
  return file;
}

async function parent(value: number): Promise<string> {
  const file = join(folder, "parent");
  await writeSafetensors(file, TENSORS, new Map(), function* ({ shape }) {
    yield new Float32Array(shape[0]! * shape[1]!).fill(value);
  });
  return file;
}

async function candidateValues(): Promise<number[]> {
  const out = join(folder, "candidate");
  await sum.candidate(await parent(0.5), out);
  await using file = await openSafetensors(out);
  const values = new Set<number>();
  for (const tensor of file.header.tensors)
    for await (const chunk of file.chunks(tensor)) for (const value of chunk.values) values.add(value);
  return [...values];
}

test("the candidate is the parent plus the weighted mean, and the same sum gives the same bytes", async () => {
  sum.add({ participant: "ann", file: await sealed("ann", { value: 1, weight: "200" }) });
  sum.add({ participant: "ben", file: await sealed("ben", { value: -3, weight: "50" }) });
  expect(await candidateValues()).toEqual([Math.fround(0.5 + (200 * 1 - 50 * 3) / 250)]);
  expect(sum.view()).toEqual({ added: ["ann", "ben"], refused: [] });
  const out = (name: string) => join(folder, name);
  const first = await sum.candidate(await parent(0.5), out("one"));
  expect(await sum.candidate(await parent(0.5), out("two"))).toEqual(first);
  expect(await readFile(out("one"))).toEqual(await readFile(out("two")));
});

test("a contribution that is passed on twice is added once", async () => {
  const file = await sealed("ann");
  sum.add({ participant: "ann", file });
  sum.add({ participant: "ann", file });
  expect(await candidateValues()).toEqual([1.5]);
});

describe("what cannot count is refused as a whole, and the sum goes on without it", () => {
  test.each([
    { says: "another participant's file", delta: { participant: "eve" }, reason: "NotOpened" },
    { says: "a tensor too few", delta: { tensors: TENSORS.slice(0, 1) }, reason: "WrongTensors" },
    { says: "NaN", delta: { value: Number.NaN }, reason: "NonFinite" },
    { says: "more than the clip norm", delta: { value: 1e5 }, reason: "NotClipped" },
    { says: "no weight", delta: { weight: "0" }, reason: "WrongWeight" },
    { says: "a weight with a sign", delta: { weight: "+25" }, reason: "WrongWeight" },
    { says: "a weight beyond 255", delta: { weight: "256" }, reason: "WrongWeight" },
  ])("$says", async ({ delta, reason }) => {
    sum.add({ participant: "ben", file: await sealed("ben", delta) });
    sum.add({ participant: "ann", file: await sealed("ann") });
    expect(await candidateValues()).toEqual([1.5]);
    expect(sum.view().added).toEqual(["ann"]);
    expect(sum.view().refused).toMatchObject([{ participant: "ben", reason }]);
  });

  test("a last record that was altered", async () => {
    const file = await sealed("ben");
    const bytes = await readFile(file);
    bytes[bytes.length - 20]! ^= 1;
    await writeFile(file, bytes);
    sum.add({ participant: "ben", file });
    sum.add({ participant: "ann", file: await sealed("ann") });
    expect(await candidateValues()).toEqual([1.5]);
    expect(sum.view().refused).toMatchObject([{ participant: "ben", reason: "NotOpened" }]);
  });
});

test("a file that the volume has lost takes its sender out, and the sum goes on without it", async () => {
  sum.add({ participant: "ben", file: join(folder, "nowhere") });
  sum.add({ participant: "ann", file: await sealed("ann") });
  expect(await candidateValues()).toEqual([1.5]);
  expect(sum.view()).toMatchObject({ added: ["ann"], refused: [{ participant: "ben", reason: "FileMissing" }] });
});

test("what the disk will not read is our own trouble: another thread begins with nothing, and the sum can be made again", async () => {
  const ann = { participant: "ann", file: await sealed("ann") };
  sum.add(ann);
  await changed.promise;
  sum.add({ participant: "ben", file: folder });
  await changed.promise;
  expect(sum.view()).toEqual({ added: [], refused: [] });
  expect(tries).toHaveLength(1);
  sum.add(ann);
  sum.add({ participant: "ben", file: await sealed("ben", { value: 3 }) });
  expect(await candidateValues()).toEqual([2.5]);
});

test("what fails with the third thread too fails for good", async () => {
  for (let thread = 1; thread <= 3; thread++) {
    sum.add({ participant: "ben", file: folder });
    await changed.promise;
  }
  expect(sum.view().problem).toMatch(/EISDIR/);
  expect(tries).toHaveLength(2);
  await expect(sum.candidate("parent", "out")).rejects.toThrow("the sum is closed");
});
