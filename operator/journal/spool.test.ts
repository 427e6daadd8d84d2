import { randomBytes } from "node:crypto";
import { mkdtemp, open, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { LEAF_BYTES, leafHash, merkleRoot } from "./merkle.ts";
import { openSpool, type SpoolUpload } from "./spool.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "spool-"));
});
const abandoned: SpoolUpload[] = [];
afterEach(async () => {
  await Promise.all(abandoned.splice(0).map((upload) => upload.close()));
  await rm(folder, { recursive: true });
});

function payload(byteLength: number) {
  const bytes = randomBytes(byteLength);
  const chunks: Buffer[] = [];
  for (let at = 0; at < byteLength; at += LEAF_BYTES) chunks.push(bytes.subarray(at, at + LEAF_BYTES));
  const leaves = chunks.map(leafHash);
  return { bytes, chunks, byteLength, leaves, root: Buffer.from(merkleRoot(leaves)).toString("hex") };
}
type Payload = ReturnType<typeof payload>;

async function send(upload: SpoolUpload, { chunks }: Payload, from: number, until = chunks.length): Promise<void> {
  for (let at = from; at < until; at += 1) await upload.append(at * LEAF_BYTES, chunks[at]!);
}

test.each([1, LEAF_BYTES, LEAF_BYTES + 1, 3 * LEAF_BYTES])(
  "a file of %i bytes ends under its root, 0600",
  async (length) => {
    const spool = await openSpool(folder);
    const sent = payload(length);
    const upload = await spool.begin(sent);
    expect(upload.heldBytes).toBe(0);
    await send(upload, sent, 0);
    const path = await upload.finish();
    expect(path).toBe(join(folder, sent.root));
    expect((await readFile(path)).equals(sent.bytes)).toBe(true);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(await readdir(folder)).toEqual([sent.root]);
    expect(await spool.file(Buffer.from(sent.root, "hex"))).toMatchObject({
      file: path,
      byteLength: length,
      complete: true,
    });
  },
);

test("an upload continues where an earlier process left it", async () => {
  const sent = payload(3 * LEAF_BYTES + 5);
  const before = await (await openSpool(folder)).begin(sent);
  abandoned.push(before);
  await send(before, sent, 0, 2); // and then the process dies without a close

  const spool = await openSpool(folder);
  expect(await spool.list()).toMatchObject([{ root: sent.root, byteLength: 2 * LEAF_BYTES, complete: false }]);
  const upload = await spool.begin(sent);
  expect(upload.heldBytes).toBe(2 * LEAF_BYTES);
  await send(upload, sent, 2);
  expect((await readFile(await upload.finish())).equals(sent.bytes)).toBe(true);
});

test("bytes that a crash of the machine lost or damaged are asked for again", async () => {
  const sent = payload(3 * LEAF_BYTES);
  const before = await (await openSpool(folder)).begin(sent);
  await send(before, sent, 0, 3);
  await before.close();
  const file = await open(join(folder, `${sent.root}.partial`), "r+");
  await file.write(Buffer.alloc(10), 0, 10, LEAF_BYTES + 100);
  await file.close();
  const upload = await (await openSpool(folder)).begin(sent);
  abandoned.push(upload);
  expect(upload.heldBytes).toBe(LEAF_BYTES);
});

test("a finished upload that is begun again holds everything and finishes at once", async () => {
  const spool = await openSpool(folder);
  const sent = payload(10);
  const first = await spool.begin(sent);
  await send(first, sent, 0);
  const path = await first.finish();
  const second = await spool.begin(sent);
  expect(second.heldBytes).toBe(10);
  expect(await second.finish()).toBe(path);
});

test("a newer upload of the same bytes closes the older one", async () => {
  const spool = await openSpool(folder);
  const sent = payload(2 * LEAF_BYTES);
  const older = await spool.begin(sent);
  await send(older, sent, 0, 1);
  const newer = await spool.begin(sent);
  expect(newer.heldBytes).toBe(LEAF_BYTES);
  await expect(older.append(LEAF_BYTES, sent.chunks[1]!)).rejects.toMatchObject({ code: "Closed" });
  await send(newer, sent, 1);
  await newer.finish();
});

test.each([
  { says: "damaged", chunk: (sent: Payload) => Buffer.from(sent.chunks[0]!).fill(7, 9, 10), offset: 0 },
  { says: "too short", chunk: (sent: Payload) => sent.chunks[0]!.subarray(1), offset: 0 },
  { says: "too long", chunk: (sent: Payload) => Buffer.concat([sent.chunks[0]!, Buffer.alloc(1)]), offset: 0 },
  { says: "of the second place", chunk: (sent: Payload) => sent.chunks[1]!, offset: 0 },
  { says: "out of order", chunk: (sent: Payload) => sent.chunks[1]!, offset: LEAF_BYTES },
])("a chunk that is $says is refused and nothing of it is kept", async ({ chunk, offset }) => {
  const spool = await openSpool(folder);
  const sent = payload(2 * LEAF_BYTES);
  const upload = await spool.begin(sent);
  await expect(upload.append(offset, chunk(sent))).rejects.toMatchObject({ code: "ChunkInvalid" });
  expect(upload.heldBytes).toBe(0);
  await send(upload, sent, 0);
  expect((await readFile(await upload.finish())).equals(sent.bytes)).toBe(true);
});

test("nothing beyond the manifest's length is taken, and nothing is finished before it", async () => {
  const upload = await (await openSpool(folder)).begin(payload(3));
  abandoned.push(upload);
  await expect(upload.finish()).rejects.toMatchObject({ code: "Incomplete", message: "0 of 3 bytes have arrived" });
});

test.each([
  { says: "no bytes", byteLength: 0, leaves: [] },
  { says: "a leaf too few", byteLength: LEAF_BYTES + 1, leaves: [Buffer.alloc(32)] },
  { says: "a short leaf", byteLength: 1, leaves: [Buffer.alloc(31)] },
  { says: "half a byte", byteLength: 0.5, leaves: [Buffer.alloc(32)] },
])("a manifest with $says is refused", async ({ byteLength, leaves }) => {
  await expect((await openSpool(folder)).begin({ byteLength, leaves })).rejects.toMatchObject({
    code: "ManifestInvalid",
  });
});

test("an upload that does not fit beside the open ones is refused before its first byte", async () => {
  const spool = await openSpool(folder, async () => 64 * 2 ** 20 + 3 * LEAF_BYTES);
  abandoned.push(await spool.begin(payload(2 * LEAF_BYTES)));
  await expect(spool.begin(payload(2 * LEAF_BYTES))).rejects.toMatchObject({ code: "DiskFull" });
  abandoned.push(await spool.begin(payload(LEAF_BYTES)));
});

test("remove takes the partial and the complete file away, an open upload too", async () => {
  const spool = await openSpool(folder);
  const sent = payload(2 * LEAF_BYTES);
  const upload = await spool.begin(sent);
  await send(upload, sent, 0, 1);
  await spool.remove(sent.root);
  await expect(upload.append(LEAF_BYTES, sent.chunks[1]!)).rejects.toMatchObject({ code: "Closed" });
  const again = await spool.begin(sent);
  await send(again, sent, 0);
  await again.finish();
  await spool.remove(Buffer.from(sent.root, "hex"));
  await spool.remove(sent.root);
  expect(await readdir(folder)).toEqual([]);
});
