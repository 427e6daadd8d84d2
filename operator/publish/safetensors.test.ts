/** Safetensors: what the format allows is read back bit by bit, what a hostile file tries is refused by name. */
import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { widen } from "./float.ts";
import { copyAsFloat32, openSafetensors, writeSafetensors } from "./safetensors.ts";
import { formatHeader, parseHeader, type SafetensorsHeader, type TensorInfo } from "./safetensors-header.ts";
import { SafetensorsStream } from "./safetensors-stream.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rondo-safetensors-"));
});
afterEach(() => rm(folder, { recursive: true }));

const f32 = (shape: number[], begin: number, end: number) => ({ dtype: "F32", shape, data_offsets: [begin, end] });
const header = (value: unknown) => Buffer.from(JSON.stringify(value));

function code(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    return (error as { code: string }).code;
  }
  return "accepted";
}

describe("a header", () => {
  test.each<{ says: string; json: unknown; data: number; is: string }>([
    {
      says: "two tensors that cover the data",
      json: { a: f32([2], 0, 8), b: f32([1, 1], 8, 12) },
      data: 12,
      is: "accepted",
    },
    { says: "an empty tensor", json: { a: f32([0, 4], 0, 0), b: f32([1], 0, 4) }, data: 4, is: "accepted" },
    {
      says: "metadata of strings",
      json: { __metadata__: { format: "pt" }, a: f32([1], 0, 4) },
      data: 4,
      is: "accepted",
    },
    { says: "a hole", json: { a: f32([1], 0, 4), b: f32([1], 8, 12) }, data: 12, is: "OffsetsInvalid" },
    { says: "an overlap", json: { a: f32([2], 0, 8), b: f32([2], 4, 12) }, data: 12, is: "OffsetsInvalid" },
    { says: "bytes that belong to nobody", json: { a: f32([1], 0, 4) }, data: 8, is: "OffsetsInvalid" },
    { says: "tensors beyond the file", json: { a: f32([2], 0, 8) }, data: 4, is: "Truncated" },
    { says: "a shape that needs more bytes", json: { a: f32([3], 0, 8) }, data: 8, is: "OffsetsInvalid" },
    {
      says: "a shape whose product overflows",
      json: { a: f32([2 ** 40, 2 ** 40], 0, 8) },
      data: 8,
      is: "OffsetsInvalid",
    },
    { says: "offsets backwards", json: { a: f32([1], 4, 0) }, data: 4, is: "OffsetsInvalid" },
    { says: "a negative size", json: { a: f32([-1], 0, 4) }, data: 4, is: "HeaderMalformed" },
    { says: "half a size", json: { a: f32([0.5], 0, 2) }, data: 2, is: "HeaderMalformed" },
    { says: "a type of integers", json: { a: { ...f32([1], 0, 4), dtype: "I32" } }, data: 4, is: "DtypeUnsupported" },
    {
      says: "a type named as a property of objects",
      json: { a: { ...f32([1], 0, 4), dtype: "toString" } },
      data: 4,
      is: "DtypeUnsupported",
    },
    { says: "an unknown field", json: { a: { ...f32([1], 0, 4), offset: 0 } }, data: 4, is: "HeaderMalformed" },
    { says: "metadata that is not text", json: { __metadata__: { n: 1 } }, data: 0, is: "HeaderMalformed" },
    { says: "an array", json: [], data: 0, is: "HeaderMalformed" },
    { says: "a name without letters", json: { "": f32([1], 0, 4) }, data: 4, is: "NameForbidden" },
    { says: "the constructor's name", json: { constructor: f32([1], 0, 4) }, data: 4, is: "NameForbidden" },
  ])("with $says: $is", ({ json, data, is }) => {
    const bytes = header(json);
    expect(code(() => parseHeader(bytes, 8 + bytes.length + data))).toBe(is);
  });

  test.each([
    {
      says: "the same name twice",
      text: '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
      is: "DuplicateName",
    },
    {
      says: "the same name twice, once escaped",
      text: '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"\\u0061":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
      is: "DuplicateName",
    },
    {
      says: "two shapes",
      text: '{"a":{"dtype":"F32","shape":[1],"shape" : [1],"data_offsets":[0,4]}}',
      is: "DuplicateName",
    },
    {
      says: "a prototype",
      text: '{"__proto__":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
      is: "NameForbidden",
    },
    { says: "no JSON", text: "{a}", is: "HeaderMalformed" },
    { says: "leading spaces", text: " {}", is: "HeaderMalformed" },
  ])("with $says: $is", ({ text, is }) => {
    expect(code(() => parseHeader(Buffer.from(text), 8 + text.length + 4))).toBe(is);
  });

  test("that is not UTF-8 is refused", () => {
    expect(code(() => parseHeader(Buffer.from([0x7b, 0xff, 0x7d]), 11))).toBe("HeaderMalformed");
  });

  test("with more tensors than allowed is refused", () => {
    const json = header({ a: f32([0], 0, 0), b: f32([0], 0, 0), c: f32([0], 0, 0) });
    expect(code(() => parseHeader(json, 8 + json.length, { headerBytes: 1000, tensors: 1 }))).toBe("TooManyTensors");
  });

  test("comes back as it was formatted, padded to 8 bytes, wide types first, names by bytes", () => {
    const metadata = new Map([["weight", "17"]]);
    const { bytes, header: formatted } = formatHeader(
      [
        { name: "h", dtype: "BF16", shape: [3] },
        { name: "Z", dtype: "F32", shape: [2, 2] },
        { name: "\u{10000}", dtype: "F32", shape: [1] },
        { name: "\uffff", dtype: "F32", shape: [1] },
      ],
      metadata,
    );
    expect(bytes.length % 8).toBe(0);
    expect(formatted.tensors.map(({ name }) => name)).toEqual(["Z", "\uffff", "\u{10000}", "h"]);
    expect(parseHeader(bytes.subarray(8), formatted.byteLength)).toEqual(formatted);
  });
});

describe("values", () => {
  test("all 65,536 half floats widen to the value that IEEE 754 gives them", () => {
    const out = new Float32Array(65_536);
    widen("F16", new Uint8Array(Uint16Array.from({ length: 65_536 }, (_, i) => i).buffer), out);
    for (let half = 0; half < 65_536; half++) {
      const [sign, exponent, fraction] = [half >> 15 ? -1 : 1, (half >> 10) & 31, half & 1023];
      const normal =
        exponent === 31
          ? fraction
            ? Number.NaN
            : Number.POSITIVE_INFINITY
          : (1 + fraction / 1024) * 2 ** (exponent - 15);
      expect(
        Object.is(out[half], sign * (exponent === 0 ? (fraction / 1024) * 2 ** -14 : normal)),
        `half ${half}`,
      ).toBe(true);
    }
  });

  test("bfloat16 is the upper half of float32, at odd addresses too", () => {
    const bytes = new Uint8Array(9);
    bytes.set(new Uint8Array(Uint16Array.of(0x3f80, 0xc040, 0x7f80, 0x0001).buffer), 1);
    const out = new Float32Array(4);
    widen("BF16", bytes.subarray(1), out);
    expect([...out]).toEqual([1, -3, Number.POSITIVE_INFINITY, 2 ** -133]);
  });
});

describe("files", () => {
  const tensors = [
    { name: "b", shape: [3, 5] },
    { name: "a", shape: [7] },
  ];
  const element = (name: string, i: number) => (name === "a" ? 100 + i : i / 8);

  async function written(): Promise<string> {
    const path = join(folder, "x.safetensors");
    const result = await writeSafetensors(path, tensors, new Map([["format", "pt"]]), function* (tensor) {
      const count = (tensor.end - tensor.begin) / 4;
      for (let at = 0; at < count; at += 4) {
        yield Float32Array.from({ length: Math.min(4, count - at) }, (_, i) => element(tensor.name, at + i));
      }
    });
    const bytes = await readFile(path);
    expect(result).toEqual({ byteLength: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") });
    return path;
  }

  test("are read back in chunks of any size", async () => {
    await using file = await openSafetensors(await written());
    expect(file.header.tensors.map(({ name }) => name)).toEqual(["a", "b"]);
    const seen: number[] = [];
    for await (const { at, values } of file.chunks(file.tensor("b")!, 4)) {
      expect(at).toBe(seen.length);
      seen.push(...values);
    }
    expect(seen).toEqual(Array.from({ length: 15 }, (_, i) => i / 8));
    const three = new Float32Array(3);
    await file.read(file.tensor("a")!, 2, three);
    expect([...three]).toEqual([102, 103, 104]);
    await expect(file.read(file.tensor("a")!, 5, three)).rejects.toThrow(RangeError);
  });

  test("leave nothing behind when their values fail", async () => {
    const path = join(folder, "x.safetensors");
    const write = writeSafetensors(path, [{ name: "a", shape: [4] }], new Map(), function* () {
      yield Float32Array.of(1, 2);
      throw new Error("disk of the far side");
    });
    await expect(write).rejects.toThrow("disk of the far side");
    expect(await readdir(folder)).toEqual([]);
  });

  test.each([3, 5])("are refused with %i values where 4 were announced", async (count) => {
    const path = join(folder, "x.safetensors");
    const write = writeSafetensors(path, [{ name: "a", shape: [4] }], new Map(), () => [new Float32Array(count)]);
    await expect(write).rejects.toThrow(RangeError);
    expect(await readdir(folder)).toEqual([]);
  });

  test("of half floats are copied as float32", async () => {
    const { bytes } = formatHeader([{ name: "a", dtype: "F16", shape: [2] }]);
    const from = join(folder, "half.safetensors");
    await writeFile(from, Buffer.concat([bytes, new Uint8Array(Uint16Array.of(0x3c00, 0xc000).buffer)]));
    const to = join(folder, "full.safetensors");
    await copyAsFloat32(from, to);
    await using copy = await openSafetensors(to);
    const values = new Float32Array(2);
    await copy.read(copy.tensor("a")!, 0, values);
    expect([...values]).toEqual([1, -2]);
  });

  test.each([
    { says: "an empty file", bytes: Buffer.alloc(0), is: "Truncated" },
    { says: "a header of 2^63 bytes", bytes: Buffer.from([0, 0, 0, 0, 0, 0, 0, 0x80, 0x7b]), is: "HeaderTooLarge" },
    { says: "a header longer than the file", bytes: Buffer.from([100, 0, 0, 0, 0, 0, 0, 0, 0x7b]), is: "Truncated" },
  ])("$says is refused: $is", async ({ bytes, is }) => {
    const path = join(folder, "bad");
    await writeFile(path, bytes);
    await expect(openSafetensors(path)).rejects.toMatchObject({ code: is });
  });

  test("arrive in pieces of any size with the same values", async () => {
    const bytes = await readFile(await written());
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 40 }), (sizes) => {
        const seen = new Map<string, number[]>();
        const stream = new SafetensorsStream(bytes.length, {
          header: (found: SafetensorsHeader) => expect(found.metadata.get("format")).toBe("pt"),
          values(tensor: TensorInfo, at: number, values: Float32Array) {
            const list = seen.get(tensor.name) ?? [];
            expect(at).toBe(list.length);
            seen.set(tensor.name, list.concat(...values));
          },
        });
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const size = sizes[i % sizes.length]!;
          const piece = Uint8Array.from(bytes.subarray(at, at + size));
          stream.push(piece);
          piece.fill(0xff); // the sender uses its buffer again
          at += size;
        }
        stream.end();
        expect(seen.get("a")).toEqual(Array.from({ length: 7 }, (_, i) => 100 + i));
        expect(seen.get("b")).toEqual(Array.from({ length: 15 }, (_, i) => i / 8));
      }),
    );
  });

  test("that end early or run over are refused while they arrive", async () => {
    const bytes = await readFile(await written());
    const receiver = { header: () => undefined, values: () => undefined };
    const short = new SafetensorsStream(bytes.length, receiver);
    short.push(bytes.subarray(0, -1));
    expect(code(() => short.end())).toBe("Truncated");
    const long = new SafetensorsStream(bytes.length, receiver);
    expect(code(() => long.push(Buffer.concat([bytes, Buffer.alloc(1)])))).toBe("OffsetsInvalid");
    const wrong = new SafetensorsStream(bytes.length + 4, receiver);
    expect(code(() => wrong.push(bytes))).toBe("OffsetsInvalid");
  });
});
