/** On real sealed files. What is refused, and why: sum.test.ts. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { writeSafetensors } from "../../publish/safetensors.ts";
import { generateRoundKeys, sealFile } from "../../transport/sealing.ts";
import { ContributionFault, readContribution } from "./contribution.ts";

// 1.3 MB: two records, and a value lies across their border.
const TENSORS = [
  { name: "a.lora_A.weight", shape: [3, 40_000] as [number, number] },
  { name: "a.lora_B.weight", shape: [70_001, 3] as [number, number] },
];
const planHash = new Uint8Array(32).fill(7);

let folder: string;
let privateKey: Uint8Array;
let publicKey: Uint8Array;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "rondo-contribution-"));
  ({ privateKey, publicKey } = await generateRoundKeys());
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function sealed(name: string, valueAt: (i: number) => number): Promise<string> {
  const [plain, file] = [join(folder, `${name}.plain`), join(folder, name)];
  await writeSafetensors(plain, TENSORS, new Map([["weight", "200"]]), ({ shape }) => [
    Float32Array.from({ length: shape[0]! * shape[1]! }, (_, i) => valueAt(i)),
  ]);
  await sealFile(plain, file, { publicKey, planHash, participant: "ann" });
  return file;
}

async function read(file: string, keptBytes?: number): Promise<Map<string, number[]>> {
  const values = new Map(TENSORS.map(({ name }) => [name, [] as number[]]));
  const options = { tensors: TENSORS, planHash, privateKey, clipNorm: 1e9 };
  await readContribution(
    options,
    { participant: "ann", file },
    (tensor, at, chunk, weight) => {
      expect({ weight, at }).toEqual({ weight: 200, at: values.get(tensor)!.length });
      for (const value of chunk) values.get(tensor)!.push(value);
    },
    keptBytes,
  );
  return values;
}

test("values that are kept and values that are read again are the same, also when another contribution came before", async () => {
  const [first, second] = [await sealed("first", (i) => i), await sealed("second", (i) => -i / 4)];
  await read(first);
  const kept = await read(second);
  expect(kept.get("a.lora_B.weight")![70_000]).toBe(-17_500);
  expect(await read(second, 0)).toEqual(kept);
});

test.each([{ keptBytes: undefined }, { keptBytes: 0 }])(
  "nothing is added of a contribution whose last value is not finite",
  async ({ keptBytes }) => {
    const file = await sealed(`nan-${keptBytes}`, (i) => (i === 210_002 ? Number.NaN : 1));
    let added = 0;
    const options = { tensors: TENSORS, planHash, privateKey, clipNorm: 1e9 };
    const reading = readContribution(options, { participant: "ann", file }, () => added++, keptBytes);
    await expect(reading).rejects.toThrow(ContributionFault);
    expect(added).toBe(0);
  },
);
