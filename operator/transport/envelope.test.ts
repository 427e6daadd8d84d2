import { verify } from "node:crypto";
import { expect, test } from "vitest";
import { bodyHash, openMessage, openSigned, seal } from "./envelope.ts";
import { Acceptance, Signed } from "./generated/rondo.v1.ts";
import {
  generateIdentity,
  identityFingerprint,
  privateKeyFromRaw,
  publicKeyFromRaw,
  rawPrivateKey,
  rawPublicKey,
} from "./identity.ts";

// RFC 8032 §7.1, TEST 1
const SEED = Buffer.from("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", "hex");
const PUBLIC = Buffer.from("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "hex");

const { privateKey, publicKey } = generateIdentity();
const body = Buffer.from("what was said");
const expected = { kind: "accept", publicKey, mostBytes: 100 } as const;

test("raw keys and keys of node:crypto are the same keys", () => {
  const key = privateKeyFromRaw(SEED);
  expect(Buffer.from(rawPublicKey(key)).equals(PUBLIC)).toBe(true);
  expect(Buffer.from(rawPrivateKey(key)).equals(SEED)).toBe(true);
  expect(Buffer.from(rawPublicKey(publicKeyFromRaw(PUBLIC))).equals(PUBLIC)).toBe(true);
  expect(identityFingerprint(PUBLIC)).toMatch(/^[0-9a-f]{64}$/);
  expect(() => publicKeyFromRaw(PUBLIC.subarray(1))).toThrow(RangeError);
});

test("the signature covers rondo/v1/, the kind, a slash and the body", () => {
  const { signature } = seal("accept", body, privateKey);
  expect(verify(null, Buffer.from("rondo/v1/accept/what was said"), publicKey, signature)).toBe(true);
});

test("what was signed opens, after a way through protobuf as well", () => {
  const sent = Signed.decode(Signed.encode(seal("accept", body, privateKey)).finish());
  expect(Buffer.from(openSigned(sent, expected)).equals(body)).toBe(true);
});

test.each([
  { says: "without an envelope", change: () => undefined, code: "MessageInvalid" },
  { says: "of another kind", change: (s: Signed) => ({ ...s, kind: "refuse" }), code: "MessageInvalid" },
  {
    says: "signed under another kind",
    change: () => ({ ...seal("refuse", body, privateKey), kind: "accept" }),
    code: "SignatureInvalid",
  },
  {
    says: "with a changed body",
    change: (s: Signed) => ({ ...s, body: Buffer.from("what was sait") }),
    code: "SignatureInvalid",
  },
  {
    says: "with a short signature",
    change: (s: Signed) => ({ ...s, signature: s.signature.subarray(1) }),
    code: "SignatureInvalid",
  },
  {
    says: "without a signature",
    change: (s: Signed) => ({ ...s, signature: Buffer.alloc(0) }),
    code: "SignatureInvalid",
  },
  {
    says: "signed by another key",
    change: () => seal("accept", body, generateIdentity().privateKey),
    code: "SignatureInvalid",
  },
  { says: "that is too large", change: () => seal("accept", Buffer.alloc(101), privateKey), code: "MessageTooLarge" },
])("a message $says is refused", ({ change, code }) => {
  expect(() => openSigned(change(seal("accept", body, privateKey)), expected)).toThrow(
    expect.objectContaining({ code }),
  );
});

test("a body that is signed and no protobuf is a fault and not a crash", () => {
  const garbage = seal("accept", Buffer.from([0xff, 0xff, 0xff]), privateKey);
  expect(() => openMessage(garbage, expected, Acceptance)).toThrow(expect.objectContaining({ code: "MessageInvalid" }));
});

test("a number beyond what JavaScript holds exactly is refused", () => {
  const round = Buffer.from([0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
  const work = Buffer.concat([Buffer.from([0x0a, round.length]), round]);
  const signed = seal("accept", work, privateKey);
  expect(() => openMessage(signed, expected, Acceptance)).toThrow(expect.objectContaining({ code: "MessageInvalid" }));
});

test("a body's hash is its SHA-256", () => {
  expect(Buffer.from(bodyHash(Buffer.from("abc"))).toString("hex")).toBe(
    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
  );
});
