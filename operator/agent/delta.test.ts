import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openSafetensors } from "../publish/safetensors.ts";
import type { Plan } from "../round/plan.ts";
import { AdapterFault, makeDelta, makeDifference } from "./delta.ts";
import { makePlan, tensors, writeAdapter } from "./testing/plan.ts";

let folder: string;
const file = (name: string) => join(folder, name);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "rondo-delta-"));
  await writeAdapter(file("parent"), () => 1);
});
afterAll(() => rm(folder, { recursive: true }));

const key = Buffer.alloc(32, 1).toString("base64");
const plan = makePlan({
  participant: "a",
  identity: key,
  parentDigest: "2".repeat(64),
  parentBytes: 1,
  sealingKey: key,
  nowMs: 0,
});

const options = (change: Partial<Plan> = {}, examples = 50) => ({
  plan: { ...plan, ...change },
  parentFile: file("parent"),
  trainedFile: file("trained"),
  deltaFile: file("delta"),
  examples,
});
const make = (change: Partial<Plan> = {}, examples = 50) => makeDelta(options(change, examples));

async function values(): Promise<number[]> {
  await using delta = await openSafetensors(file("delta"));
  const all: number[] = [];
  for (const tensor of delta.header.tensors) for await (const { values } of delta.chunks(tensor)) all.push(...values);
  return all;
}

test("delta is trained − parent, with the weight beside it", async () => {
  await writeAdapter(file("trained"), () => 1.125);
  const { weight } = await make();
  expect(weight).toBe(128); // round(255 · 50 / 100)
  expect(new Set(await values())).toEqual(new Set([0.125]));
  await using delta = await openSafetensors(file("delta"));
  expect(delta.header.metadata.get("weight")).toBe("128");
  expect(delta.header.tensors.map(({ name }) => name)).toEqual(tensors.map(({ name }) => name));
});

test("a trainer's loss lies beside the weight, for the mean over all; one that names none is in no mean", async () => {
  await writeAdapter(file("trained"), () => 1.125);
  const said = async () => {
    await using delta = await openSafetensors(file("delta"));
    return Object.fromEntries(delta.header.metadata);
  };
  await makeDelta({ ...options(), loss: { tokens: 1200, trainLoss: 2.5 } });
  expect(await said()).toEqual({ weight: "128", tokens: "1200", lossTokens: "3000.000000" });
  await make();
  expect(await said()).toEqual({ weight: "128" });
});

test("a delta longer than the clip is shortened to it, over all tensors together", async () => {
  await writeAdapter(file("trained"), () => 3); // 32 values of 2: norm 11.3
  await make();
  const norm = Math.hypot(...(await values()));
  expect(norm).toBeCloseTo(1, 5);
});

test.each([
  { says: "longer than the clip comes with the factor that shortens it", trained: 3, factor: 1 / Math.sqrt(128) },
  { says: "within the clip comes with one", trained: 1.125, factor: 1 },
])("a difference $says, and is in no file of its own", async ({ trained, factor }) => {
  await writeAdapter(file("trained"), () => trained);
  await rm(file("delta"), { force: true });
  const difference = await makeDifference(options());
  expect(difference).toEqual({ file: file("trained"), minus: file("parent"), weight: 128, factor });
  expect((await readdir(folder)).filter((name) => name.startsWith("delta"))).toEqual([]);
});

/** The same tensors with the values in the other order. */
const reversed = async (valueAt: (i: number) => number) => {
  const header: Record<string, object> = {};
  let end = 0;
  for (const { name, shape } of tensors.toReversed()) {
    const begin = end;
    end += 4 * shape[0]! * shape[1]!;
    header[name] = { dtype: "F32", shape, data_offsets: [begin, end] };
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const values = Float32Array.from({ length: end / 4 }, (_, i) => valueAt(i));
  await writeFile(file("trained"), Buffer.concat([length, text, Buffer.from(values.buffer)]));
};

test("a difference of an adapter in another order than the plan's is written in the plan's", async () => {
  await reversed((i) => 1 + (i < 16 ? 0.0625 : 0.125));
  expect(await makeDifference(options())).toEqual({ file: file("delta"), weight: 128, factor: 1 });
  expect(await values()).toEqual(Array.from({ length: 32 }, (_, i) => (i < 16 ? 0.125 : 0.0625)));
});

test.each([
  { says: "in the plan's order", write: (valueAt: (i: number) => number) => writeAdapter(file("trained"), valueAt) },
  { says: "in another order", write: reversed },
])("a difference that is not finite leaves no file, $says", async ({ write }) => {
  await write((i) => (i === 5 ? Number.NaN : 1));
  await rm(file("delta"), { force: true });
  await expect(makeDifference(options())).rejects.toMatchObject({ reason: "NonFinite" });
  expect((await readdir(folder)).filter((name) => name.startsWith("delta"))).toEqual([]);
});

test("uniform weights do not tell how many examples there were", async () => {
  await writeAdapter(file("trained"), () => 1);
  expect((await make({ aggregation: { ...plan.aggregation, weighting: "uniform" } }, 3)).weight).toBe(255);
});

test.each([
  {
    says: "NaN",
    reason: "NonFinite",
    message: "delta has 1 non-finite value in tensor base_model.model.q_proj.lora_A.weight",
    write: () => writeAdapter(file("trained"), (i) => (i === 3 ? Number.NaN : 1), tensors),
  },
  {
    says: "another rank",
    reason: "ShapeDiffers",
    message: "tensor base_model.model.q_proj.lora_A.weight has shape 4×8 and the plan says 2×8",
    write: () =>
      writeAdapter(file("trained"), () => 1, [
        { ...tensors[0]!, shape: [4, 8] },
        { ...tensors[1]!, shape: [8, 4] },
      ]),
  },
  {
    says: "a tensor missing",
    reason: "TensorMissing",
    write: () => writeAdapter(file("trained"), () => 1, [tensors[0]!]),
  },
  {
    says: "a tensor too many",
    reason: "TensorUnexpected",
    write: () => writeAdapter(file("trained"), () => 1, [...tensors, { name: "z", shape: [1, 1] }]),
  },
  {
    says: "no safetensors at all",
    reason: "AdapterMalformed",
    write: () => writeFile(file("trained"), "not an adapter"),
  },
])("refused: $says", async ({ write, reason, message }) => {
  await rm(file("delta"), { force: true });
  await write();
  const fault = await make().then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(fault).toBeInstanceOf(AdapterFault);
  expect(fault).toMatchObject({ reason, ...(message ? { message: expect.stringContaining(message) } : {}) });
  await expect(openSafetensors(file("delta"))).rejects.toThrow(); // nothing half-made is left
});

test("every non-finite value of both tensors is found, infinite ones too", async () => {
  await writeAdapter(file("trained"), (i) => (i < 2 ? Infinity : 1));
  await expect(make()).rejects.toThrow("2 non-finite values");
});
