import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { LEAF_BYTES, leafHash, leavesOfFile, merkleRoot } from "./merkle.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "merkle-"));
});
afterAll(() => rm(folder, { recursive: true }));

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const sha256 = (...parts: Uint8Array[]) => createHash("sha256").update(Buffer.concat(parts)).digest();

test("2^21+1 zero bytes have the root of secure-aggregation.md §3", async () => {
  const file = join(folder, "zeros");
  await writeFile(file, new Uint8Array(2 ** 21 + 1));
  const { leaves, byteLength } = await leavesOfFile(file);
  expect(byteLength).toBe(2 ** 21 + 1);
  expect(leaves).toHaveLength(3);
  expect(hex(merkleRoot(leaves))).toBe("201f03e482d72e53e53443ebe6a068d64e1a985393c21057a8dc8ef8a15ae191");
});

test("the empty tree is the hash of nothing, a single leaf is its own root", () => {
  expect(hex(merkleRoot([]))).toBe(hex(sha256()));
  const leaf = leafHash(Uint8Array.of(1, 2, 3));
  expect(hex(merkleRoot([leaf]))).toBe(hex(sha256(Uint8Array.of(0, 1, 2, 3))));
});

test("five leaves split at four", () => {
  const l = [1, 2, 3, 4, 5].map((n) => leafHash(Uint8Array.of(n)));
  const node = (a: Uint8Array, b: Uint8Array) => sha256(Uint8Array.of(1), a, b);
  const root = node(node(node(l[0]!, l[1]!), node(l[2]!, l[3]!)), l[4]!);
  expect(hex(merkleRoot(l))).toBe(hex(root));
});

test("a file of exactly one leaf has one leaf, and an empty file none", async () => {
  const file = join(folder, "one");
  await writeFile(file, new Uint8Array(LEAF_BYTES));
  expect((await leavesOfFile(file)).leaves).toHaveLength(1);
  await writeFile(file, new Uint8Array());
  expect(await leavesOfFile(file)).toEqual({ leaves: [], byteLength: 0 });
});
