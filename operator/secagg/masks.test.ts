/** Keystreams by their published vectors, masks that cancel, masked vectors that tell nothing. */
import { createCipheriv, createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BLOCK_BYTES } from "./kernels/kernel.ts";
import { simdKernel } from "./kernels/simd.ts";
import { addToSum, applyMasks, CIPHER, Keystream, type MaskKey, MOST_BYTES_PER_KEY } from "./masks.ts";
import type { Ring } from "./vector.ts";

const RINGS: Ring[] = ["u32", "u16"];
const kernel = simdKernel();
const hex = (text: string) => Buffer.from(text.replaceAll(/\s/g, ""), "hex");
const keyOf = (name: string) => new Uint8Array(createHash("sha256").update(name).digest());

function keystream(key: Uint8Array, from: number, length: number): Buffer {
  const stream = new Keystream(key, from);
  const out = Buffer.alloc(length);
  for (let at = 0; at < length; at += BLOCK_BYTES) stream.next(out.subarray(at, at + BLOCK_BYTES));
  return out;
}

describe("the keystream", () => {
  test("is of the cipher of SP 800-38A F.5.5, CTR-AES256", () => {
    const key = hex("603deb1015ca71be2b73aef0857d7781 1f352c073b6108d72d9810a30914dff4");
    const counter = hex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff");
    const plain = hex(
      "6bc1bee22e409f96e93d7e117393172a ae2d8a571e03ac9c9eb76fac45af8e51" +
        "30c81c46a35ce411e5fbc1191a0a52ef f69f2445df4f9b17ad2b417be66c3710",
    );
    const secret = hex(
      "601ec313775789a5b7a7f504bbf3d228 f443e3ca4d62b59aca84e990cacaf5c5" +
        "2b0930daa23de94ce87017ba2d84988d dfc9c58db67aada613c2dd08457941a6",
    );
    expect(createCipheriv(CIPHER, key, counter).update(plain)).toEqual(secret);
  });

  test("of the reference seed begins with the words of secagg_kdf.json", () => {
    const vectors = JSON.parse(readFileSync(new URL("../../test/vectors/secagg_kdf.json", import.meta.url), "utf8"));
    const bytes = keystream(hex(vectors.seed), 0, 16);
    expect([...new Uint32Array(bytes.buffer, bytes.byteOffset, 4)]).toEqual(vectors.first4words);
  });

  test("begins anywhere as if it had come there", () => {
    const whole = keystream(keyOf("a"), 0, 3 * BLOCK_BYTES);
    for (const from of [16, 4096, BLOCK_BYTES, BLOCK_BYTES + 48]) {
      expect(keystream(keyOf("a"), from, 1000).equals(whole.subarray(from, from + 1000)), `from ${from}`).toBe(true);
    }
  });

  test("counts in 128 bits behind 2^32 blocks", () => {
    const counter = Buffer.alloc(16);
    counter.writeBigUInt64BE(2n ** 32n - 1n, 8);
    const expected = createCipheriv(CIPHER, keyOf("a"), counter).update(Buffer.alloc(64));
    expect(keystream(keyOf("a"), MOST_BYTES_PER_KEY - 16, 64)).toEqual(expected);
  });

  test.each([-16, 8, MOST_BYTES_PER_KEY])("does not begin at byte %d", (at) => {
    expect(() => new Keystream(keyOf("a"), at)).toThrow(RangeError);
  });
});

describe.each(RINGS)("masks in %s", (ring) => {
  const size = 3 * BLOCK_BYTES + 20;
  const input = () => keystream(keyOf("input"), 0, size);

  test("of both members of a pair cancel in their sum", () => {
    const [one, other] = [input(), input()];
    applyMasks(one, ring, [{ key: keyOf("pair"), sign: 1 }], { from: 0, to: size }, kernel);
    applyMasks(other, ring, [{ key: keyOf("pair"), sign: -1 }], { from: 0, to: size }, kernel);
    expect(one.equals(input())).toBe(false);
    addToSum(one, ring, 0, other, kernel);
    const twice = input();
    addToSum(twice, ring, 0, input(), kernel);
    expect(one.equals(twice)).toBe(true);
  });

  test("are the same by ranges of any cut as in one go", () => {
    const keys: MaskKey[] = ["a", "b", "c"].map((name, i) => ({ key: keyOf(name), sign: i === 1 ? -1 : 1 }));
    const whole = input();
    applyMasks(whole, ring, keys, { from: 0, to: size }, kernel);
    fc.assert(
      fc.property(fc.uniqueArray(fc.integer({ min: 1, max: Math.floor(size / 16) }), { maxLength: 6 }), (cuts) => {
        const places = [0, ...cuts.map((cut) => cut * 16).sort((a, b) => a - b), size];
        const vector = input();
        for (let i = places.length - 2; i >= 0; i--) {
          applyMasks(vector, ring, keys, { from: places[i]!, to: places[i + 1]! }, kernel);
        }
        expect(vector.equals(whole)).toBe(true);
      }),
      { numRuns: 30 },
    );
  });

  test("work on memory that threads share", () => {
    const shared = new Uint8Array(new SharedArrayBuffer(size));
    const own = new Uint8Array(size);
    for (const vector of [shared, own]) {
      addToSum(vector, ring, 0, input(), kernel);
      applyMasks(vector, ring, [{ key: keyOf("a"), sign: -1 }], { from: 0, to: size }, kernel);
    }
    expect(Buffer.from(shared).equals(Buffer.from(own))).toBe(true);
  });

  test("do not go beyond the vector or cut an element", () => {
    const vector = new Uint8Array(32);
    expect(() => applyMasks(vector, ring, [], { from: 0, to: 48 }, kernel)).toThrow(RangeError);
    expect(() => addToSum(vector, ring, 1, vector.subarray(0, 4), kernel)).toThrow(RangeError);
  });

  test("make equal inputs uniform and independent of each other", () => {
    const length = 1 << 20;
    const masked = ["one", "other"].map((name) => {
      const vector = Buffer.alloc(length, 7);
      applyMasks(vector, ring, [{ key: keyOf(name), sign: 1 }], { from: 0, to: length }, kernel);
      return vector;
    });
    const [one, other] = masked as [Buffer, Buffer];
    // The difference is what whoever knows that the inputs are equal would look at.
    const difference = Buffer.from(one);
    addToSum(difference, ring, 0, negated(other, ring), kernel);
    for (const [name, bytes] of Object.entries({ one, other, difference })) {
      expect(chiSquare(bytes.map((byte) => byte)), name).toBeLessThan(CHI_SQUARE_255);
    }
    // Pairs of half bytes at the same place: 256 equally likely cells when the two know nothing of each other.
    expect(chiSquare(one.map((byte, i) => (byte & 0xf0) | (other[i]! & 0x0f)))).toBeLessThan(CHI_SQUARE_255);
    // Neighbours within a vector.
    expect(chiSquare(one.map((byte, i) => (byte & 0xf0) | (one[i + 1]! & 0x0f)).subarray(0, -1))).toBeLessThan(
      CHI_SQUARE_255,
    );
  });
});

/** Above it one in 10^6 of truly random samples lies; the keys are fixed, so that this passes always or never. */
const CHI_SQUARE_255 = 377;

function chiSquare(bytes: Uint8Array): number {
  const counts = new Float64Array(256);
  for (const byte of bytes) counts[byte]! += 1;
  const expected = bytes.length / 256;
  return counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
}

function negated(vector: Uint8Array, ring: Ring): Uint8Array {
  const copy = vector.slice();
  const elements = ring === "u32" ? new Uint32Array(copy.buffer) : new Uint16Array(copy.buffer);
  for (let i = 0; i < elements.length; i++) elements[i] = -elements[i]!;
  return copy;
}
