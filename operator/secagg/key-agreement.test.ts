/** Published vectors: RFC 7748 (X25519), RFC 5869 (HKDF), RFC 8032 (Ed25519), Wycheproof's points of low order, and our own secagg_kdf.json. */
import { createCipheriv, createPrivateKey, sign } from "node:crypto";
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { hex, sha256, u32, utf8 } from "./bytes.ts";
import {
  hkdf,
  hkdfSha256,
  isSignedBy,
  isUsable,
  pairMaskKey,
  publicKeyOf,
  selfMaskKey,
  sharedSecret,
  signedBytes,
  verifySigned,
} from "./key-agreement.ts";

const bytes = (text: string) => Uint8Array.from(Buffer.from(text, "hex"));
const vector = (name: string) =>
  JSON.parse(readFileSync(new URL(`../../test/vectors/${name}`, import.meta.url), "utf8"));
const range = (from: number, to: number) => Uint8Array.from({ length: to - from }, (_, i) => from + i);

describe("X25519", () => {
  test.each([
    {
      scalar: "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
      u: "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
      result: "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
    },
    {
      scalar: "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
      u: "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
      result: "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
    },
  ])("RFC 7748 §5.2: $scalar", ({ scalar, u, result }) => {
    expect(hex(sharedSecret(bytes(scalar), bytes(u)))).toBe(result);
  });

  test("RFC 7748 §5.2: 1 and 1000 iterations", () => {
    let k = Uint8Array.of(9, ...new Uint8Array(31)) as Uint8Array;
    let u = k;
    const after = new Map<number, string>();
    for (let iteration = 1; iteration <= 1000; iteration++) {
      [k, u] = [sharedSecret(k, u), k];
      after.set(iteration, hex(k));
    }
    expect(after.get(1)).toBe("422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079");
    expect(after.get(1000)).toBe("684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51");
  });

  test("RFC 7748 §6.1: both sides get the same", () => {
    const alice = bytes("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
    const bob = bytes("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
    expect(hex(publicKeyOf(alice))).toBe("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
    expect(hex(publicKeyOf(bob))).toBe("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
    const shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742";
    expect(hex(sharedSecret(alice, publicKeyOf(bob)))).toBe(shared);
    expect(hex(sharedSecret(bob, publicKeyOf(alice)))).toBe(shared);
  });

  // Wycheproof x25519_test.json, "ZeroSharedSecret": every encoding of the points of order 1, 2, 4 and 8 on curve and twist,
  // those above p and those with the top bit set too.
  const lowOrder = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  ].flatMap((point) => [point, withTopBit(point)]);
  test.each(lowOrder)("the point of low order %s agrees no key", (point) => {
    const secret = bytes("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
    expect(() => sharedSecret(secret, bytes(point))).toThrow(expect.objectContaining({ code: "KeysInvalid" }));
    expect(isUsable(bytes(point))).toBe(false);
  });

  test("an ordinary public key is usable, one of 31 bytes is not", () => {
    const key = publicKeyOf(sha256(utf8("anybody")));
    expect(isUsable(key)).toBe(true);
    expect(isUsable(key.subarray(1))).toBe(false);
  });
});

describe("HKDF-SHA256", () => {
  test.each([
    {
      name: "A.1",
      ikm: new Uint8Array(22).fill(0x0b),
      salt: range(0, 0x0d),
      info: range(0xf0, 0xfa),
      okm: "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    },
    {
      name: "A.2",
      ikm: range(0, 0x50),
      salt: range(0x60, 0xb0),
      info: range(0xb0, 0x100),
      okm: "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
    },
    {
      name: "A.3",
      ikm: new Uint8Array(22).fill(0x0b),
      salt: new Uint8Array(0),
      info: new Uint8Array(0),
      okm: "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    },
  ])("RFC 5869 $name", ({ ikm, salt, info, okm }) => {
    expect(hex(hkdfSha256(ikm, salt, info, okm.length / 2))).toBe(okm);
  });
});

describe("Ed25519", () => {
  test.each<Record<"name" | "secretKey" | "publicKey" | "message" | "signature", string>>(vector("rfc8032.json").cases)(
    "RFC 8032 §7.1 $name",
    ({ secretKey, publicKey, message, signature }) => {
      expect(hex(sign(null, bytes(message), ed25519Key(secretKey)))).toBe(signature);
      expect(isSignedBy(bytes(publicKey), bytes(message), bytes(signature))).toBe(true);
      expect(isSignedBy(bytes(publicKey), bytes(`${message}00`), bytes(signature))).toBe(false);
      expect(isSignedBy(bytes(publicKey), bytes(message), bytes(`${signature}00`))).toBe(false);
    },
  );

  test("a signature under one label is none under another", () => {
    const { secretKey, publicKey } = vector("rfc8032.json").cases[0];
    const signature = sign(null, signedBytes("t1", utf8("body")), ed25519Key(secretKey));
    expect(Buffer.from(signedBytes("t1", utf8("body"))).toString()).toBe("rondo/secagg/v1/sig/t1/body");
    expect(verifySigned(bytes(publicKey), "t1", utf8("body"), signature)).toBe(true);
    expect(verifySigned(bytes(publicKey), "t2", utf8("body"), signature)).toBe(false);
  });
});

describe("secagg_kdf.json", () => {
  const kdf = vector("secagg_kdf.json");
  const [alice, bob] = [sha256(utf8("vector-alice")), sha256(utf8("vector-bob"))];
  const t1 = sha256(utf8("vector-T1"));

  test("public keys and shared secret", () => {
    expect([alice, bob].map(publicKeyOf).map(hex)).toEqual([kdf.pk1, kdf.pk2]);
    expect(hex(sharedSecret(alice, bytes(kdf.pk2)))).toBe(kdf.shared);
  });

  test("the pair's mask key, from both ends, and the first words of its keystream", () => {
    const key = pairMaskKey(alice, bytes(kdf.pk2), t1, [1, 2]);
    expect(hex(key)).toBe(kdf.seed);
    expect(hex(pairMaskKey(bob, bytes(kdf.pk1), t1, [2, 1]))).toBe(kdf.seed);
    const keystream = createCipheriv("aes-256-ctr", key, new Uint8Array(16)).update(new Uint8Array(16));
    expect([0, 4, 8, 12].map((at) => keystream.readUInt32LE(at))).toEqual(kdf.first4words);
  });

  test("the own mask's key", () => {
    expect(hex(selfMaskKey(alice, t1, 3))).toBe(kdf.self_seed_u3);
    expect(hex(hkdf(alice, t1, "self-mask", u32(3)))).toBe(kdf.self_seed_u3);
  });
});

function withTopBit(point: string): string {
  const changed = bytes(point);
  changed[31]! |= 0x80;
  return hex(changed);
}

const ed25519Key = (secretKey: string) =>
  createPrivateKey({
    key: Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), bytes(secretKey)]),
    format: "der",
    type: "pkcs8",
  });
