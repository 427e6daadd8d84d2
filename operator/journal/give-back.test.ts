import { expect, test } from "vitest";
import { giveBack } from "./give-back.ts";

test("bytes with a buffer of their own are gone at once", () => {
  const bytes = new Uint8Array(1 << 20);
  giveBack(bytes);
  expect(bytes.byteLength).toBe(0);
});

test("bytes that are most of a message take the message with them", () => {
  const message = Buffer.concat([Buffer.alloc(9), Buffer.alloc(1 << 20)]);
  giveBack(message.subarray(9));
  expect(message.byteLength).toBe(0);
});

test.each([
  { says: "a part of a larger buffer", bytes: new Uint8Array(1 << 20).subarray(0, 1 << 19) },
  { says: "bytes in Node's shared pool", bytes: Buffer.from("a few bytes") },
  { says: "memory that threads share", bytes: new Uint8Array(new SharedArrayBuffer(1 << 20)) },
])("$says stays", ({ bytes }) => {
  const { byteLength } = bytes;
  giveBack(bytes);
  expect(bytes.byteLength).toBe(byteLength);
});
