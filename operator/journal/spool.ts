/**
 * Uploaded files by their Merkle root, beside the journal (architecture.md "masked vectors in flight").
 * Holds: a file under its root is complete, verified and on disk with its name; what a continued upload says it holds was read back,
 * verified and synced; memory is one leaf per upload, whatever the file's length.
 * Does not: know whose file it is or what is in it; two uploads of the same bytes are one file.
 */
import { constants } from "node:fs";
import { type FileHandle, mkdir, open, readdir, rename, rm, stat, statfs } from "node:fs/promises";
import { basename, join } from "node:path";
import { effect } from "../fault-injection.ts";
import { HASH_BYTES, LEAF_BYTES, leafCount, leafHash, merkleRoot, readFully } from "./merkle.ts";

/** Left free for the journal itself: a full disk must stop uploads before it stops commits. */
const RESERVED_BYTES = 64 * 2 ** 20;
const PARTIAL = ".partial";
const ROOT_NAME = /^[0-9a-f]{64}$/;

export class SpoolFault extends Error {
  readonly code: "ManifestInvalid" | "ChunkInvalid" | "Incomplete" | "Closed" | "DiskFull";
  /** Of "DiskFull", where it is known: so much must be free. */
  readonly neededBytes: number | undefined;
  constructor(code: SpoolFault["code"], message: string, neededBytes?: number) {
    super(message);
    this.name = "SpoolFault";
    this.code = code;
    this.neededBytes = neededBytes;
  }
}

export interface SpooledFile {
  root: string;
  file: string;
  byteLength: number;
  complete: boolean;
}

export interface SpoolManifest {
  byteLength: number;
  leaves: readonly Uint8Array[];
}

/** @param freeBytes  space left on the file system of a folder; an argument, so that a test can fill the disk */
export async function openSpool(folder: string, freeBytes = freeBytesOf): Promise<Spool> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  effect("file", "make the spool");
  return new Spool(folder, freeBytes);
}

export class Spool {
  readonly #folder: string;
  readonly #freeBytes: (folder: string) => Promise<number>;
  readonly #open = new Map<string, SpoolUpload>();
  #opening = Promise.resolve();

  constructor(folder: string, freeBytes: (folder: string) => Promise<number>) {
    this.#folder = folder;
    this.#freeBytes = freeBytes;
  }

  /**
   * Begins an upload or continues the one of an earlier connection or process; an upload of the same root that is still open is closed first.
   * @throws SpoolFault "ManifestInvalid" | "DiskFull"
   */
  begin(manifest: SpoolManifest): Promise<SpoolUpload> {
    // One after the other: two openings of one root, or of the last free space, must see each other.
    const begun = this.#opening.then(() => this.#begin(manifest));
    this.#opening = begun.then(
      () => undefined,
      () => undefined,
    );
    return begun;
  }

  /** The complete file of this root. */
  async file(root: Uint8Array): Promise<SpooledFile | undefined> {
    const name = Buffer.from(root).toString("hex");
    const file = join(this.#folder, name);
    const found = await stat(file).catch(absent);
    return found && { root: name, file, byteLength: found.size, complete: true };
  }

  /** Complete and partial files, in the order of their roots. */
  async list(): Promise<SpooledFile[]> {
    const files: SpooledFile[] = [];
    for (const name of (await readdir(this.#folder)).sort()) {
      const complete = !name.endsWith(PARTIAL);
      const root = complete ? name : name.slice(0, -PARTIAL.length);
      const file = join(this.#folder, name);
      const found = ROOT_NAME.test(root) ? await stat(file).catch(absent) : undefined;
      if (found) files.push({ root, file, byteLength: found.size, complete });
    }
    return files;
  }

  /** Removes the file of this root, partial or complete; an open upload of it is closed. Not there: nothing happens. */
  async remove(root: Uint8Array | string): Promise<void> {
    const name = typeof root === "string" ? root : Buffer.from(root).toString("hex");
    await this.#open.get(name)?.close();
    await rm(join(this.#folder, name), { force: true });
    effect("file", `remove spool/${name}`);
    await rm(join(this.#folder, name + PARTIAL), { force: true });
    await syncFolder(this.#folder);
    effect("file", `remove spool/${name}${PARTIAL}`);
  }

  async #begin(manifest: SpoolManifest): Promise<SpoolUpload> {
    checkManifest(manifest);
    const root = Buffer.from(merkleRoot(manifest.leaves)).toString("hex");
    await this.#open.get(root)?.close();
    const path = join(this.#folder, root);
    const complete = await stat(path).catch(absent);
    if (complete) return SpoolUpload.finished(path, manifest);

    const file = await open(path + PARTIAL, constants.O_RDWR | constants.O_CREAT, 0o600);
    try {
      const held = await verifiedLength(file, manifest);
      await file.truncate(held);
      await file.datasync();
      effect("file", `open spool/${root}${PARTIAL}`);
      await this.#reserve(manifest.byteLength - held);
      const upload = new SpoolUpload({ path, file, manifest, held, closed: () => this.#forget(root, upload) });
      this.#open.set(root, upload);
      return upload;
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  async #reserve(bytes: number): Promise<void> {
    let promised = bytes + RESERVED_BYTES;
    for (const upload of this.#open.values()) promised += upload.byteLength - upload.heldBytes;
    const free = await this.#freeBytes(this.#folder);
    if (promised > free) {
      throw new SpoolFault(
        "DiskFull",
        `The operator's volume has ${free} bytes free and needs ${promised} for the uploads under way`,
        promised,
      );
    }
  }

  #forget(root: string, upload: SpoolUpload): void {
    if (this.#open.get(root) === upload) this.#open.delete(root);
  }
}

interface UploadParts {
  path: string;
  file: FileHandle | undefined;
  manifest: SpoolManifest;
  held: number;
  closed: () => void;
}

/** One upload that is open. append() in order, then finish(); or close(), which keeps what is held. */
export class SpoolUpload {
  readonly #parts: UploadParts;
  /** The last operation on the file: close() and finish() wait for it. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(parts: UploadParts) {
    this.#parts = parts;
  }

  static finished(path: string, manifest: SpoolManifest): SpoolUpload {
    return new SpoolUpload({ path, file: undefined, manifest, held: manifest.byteLength, closed: () => {} });
  }

  get byteLength(): number {
    return this.#parts.manifest.byteLength;
  }

  /** Bytes that need not be sent again: a multiple of LEAF_BYTES, or byteLength. */
  get heldBytes(): number {
    return this.#parts.held;
  }

  /**
   * Writes the next leaf; resolves when it is written (not yet synced).
   * @throws SpoolFault "ChunkInvalid" when offset, length or hash are not those of the manifest's next leaf; "Closed"
   */
  append(offset: number, chunk: Uint8Array): Promise<void> {
    return this.#next(() => this.#append(offset, chunk));
  }

  /**
   * Syncs the file, gives it its name and syncs that. Again: the same answer.
   * @returns the path of the complete file
   * @throws SpoolFault "Incomplete"; "Closed"
   */
  finish(): Promise<string> {
    return this.#next(() => this.#finish());
  }

  /** Syncs and keeps what is held, for a later begin(). Again: nothing happens. */
  close(): Promise<void> {
    return this.#next(async () => {
      const file = this.#take();
      if (!file) return;
      await file.datasync().finally(() => file.close());
      effect("file", "close a spooled part");
    });
  }

  async #append(offset: number, chunk: Uint8Array): Promise<void> {
    const { file, held, manifest } = this.#parts;
    if (!file) throw new SpoolFault("Closed", "This upload was closed; begin it again");
    const length = Math.min(LEAF_BYTES, manifest.byteLength - held);
    if (offset !== held || chunk.length !== length || length === 0) {
      throw new SpoolFault(
        "ChunkInvalid",
        `Expected ${length} bytes at offset ${held}, got ${chunk.length} at offset ${offset}`,
      );
    }
    if (!matches(chunk, manifest, held)) {
      throw new SpoolFault("ChunkInvalid", `The chunk at offset ${offset} does not match its hash in the manifest`);
    }
    await writeFully(file, chunk, held).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOSPC") throw error;
      throw new SpoolFault("DiskFull", "The operator's volume is full");
    });
    effect("file", "write a spooled leaf");
    this.#parts.held = held + length;
  }

  async #finish(): Promise<string> {
    const { file, held, manifest, path } = this.#parts;
    if (held < manifest.byteLength) {
      throw new SpoolFault("Incomplete", `${held} of ${manifest.byteLength} bytes have arrived`);
    }
    if (!file) return path;
    await file.sync();
    effect("file", `sync spool/${basename(path)}${PARTIAL}`);
    await rename(path + PARTIAL, path);
    await syncFolder(join(path, ".."));
    effect("file", `rename spool/${basename(path)}`);
    await this.#take()?.close();
    return path;
  }

  #take(): FileHandle | undefined {
    const { file } = this.#parts;
    this.#parts.file = undefined;
    this.#parts.closed();
    return file;
  }

  #next<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => undefined);
    return result;
  }
}

function checkManifest({ byteLength, leaves }: SpoolManifest): void {
  if (!Number.isSafeInteger(byteLength) || byteLength < 1 || leaves.length !== leafCount(byteLength)) {
    throw new SpoolFault(
      "ManifestInvalid",
      `A manifest of ${byteLength} bytes must have ${leafCount(byteLength)} leaves, this one has ${leaves.length}`,
    );
  }
  if (leaves.some((leaf) => leaf.length !== HASH_BYTES)) {
    throw new SpoolFault("ManifestInvalid", `Every leaf of a manifest must have ${HASH_BYTES} bytes`);
  }
}

/** Reads a partial file back: a crash of the machine may have kept its length and lost its bytes. */
async function verifiedLength(file: FileHandle, manifest: SpoolManifest): Promise<number> {
  const { size } = await file.stat();
  const buffer = Buffer.allocUnsafe(LEAF_BYTES);
  let held = 0;
  while (held < Math.min(size, manifest.byteLength)) {
    const length = Math.min(LEAF_BYTES, manifest.byteLength - held);
    const chunk = buffer.subarray(0, length);
    if ((await readFully(file, chunk, held)) < length || !matches(chunk, manifest, held)) break;
    held += length;
  }
  return held;
}

function matches(chunk: Uint8Array, manifest: SpoolManifest, offset: number): boolean {
  return Buffer.from(leafHash(chunk)).equals(manifest.leaves[offset / LEAF_BYTES]!);
}

async function writeFully(file: FileHandle, chunk: Uint8Array, position: number): Promise<void> {
  let written = 0;
  while (written < chunk.length) {
    const { bytesWritten } = await file.write(chunk, written, chunk.length - written, position + written);
    written += bytesWritten;
  }
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  await handle.sync().finally(() => handle.close());
}

async function freeBytesOf(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize;
}

function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code !== "ENOENT") throw error;
  return undefined;
}
