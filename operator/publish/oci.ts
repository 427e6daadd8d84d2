/**
 * A client of the OCI distribution API for one repository: blobs and manifests, pushed and pulled.
 * Holds: every byte read is verified against its digest and bounded in size; credentials go only to the registry and to the
 *   token service it names; a fault is a sentence without secrets; each call ends (attempts and timeouts are bounded).
 * Does not: know what an adapter is (push-adapter.ts, pull-adapter.ts).
 */
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { open, rename, rm } from "node:fs/promises";
import { basename } from "node:path";
import { pipeline } from "node:stream/promises";
import { effect } from "../fault-injection.ts";
import { BoundedHash } from "./bounded-hash.ts";
import { ChunkedUpload, locationOf, withDigest } from "./chunked-upload.ts";
import type { Credentials } from "./credentials.ts";
import { PublishFault } from "./fault.ts";
import type { Repository } from "./reference.ts";
import { type Answer, RegistryHttp, type RetryOptions } from "./registry-http.ts";

export interface Descriptor {
  mediaType: string;
  /** `sha256:<hex>` */
  digest: string;
  size: number;
  annotations?: Record<string, string>;
}

/** Where a blob's bytes are. */
export type Blob = { file: string } | { bytes: Uint8Array };

export interface OciOptions extends Repository {
  credentials?: Credentials;
  /** http:// instead of https://: only where the Federation asks for it. */
  plainHttp?: boolean;
  /** Blobs above this are sent in pieces of this size, so that an interruption costs one piece. */
  chunkBytes?: number;
  retry?: Partial<RetryOptions>;
  signal?: AbortSignal;
}

/** A guess between memory (one piece is buffered) and requests; distribution's own client uses the same order. */
const CHUNK_BYTES = 8 << 20;
/** The specification lets a registry refuse manifests above 4 MiB; ours have 2 kB. */
export const MANIFEST_BYTES = 4 << 20;

const MANIFEST_TYPES = [
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.v2+json",
].join(", ");

export class OciRepository {
  readonly name: string;
  readonly #http: RegistryHttp;
  readonly #repository: string;
  readonly #chunkBytes: number;

  constructor(options: OciOptions) {
    this.name = `${options.registry}/${options.repository}`;
    this.#repository = options.repository;
    this.#chunkBytes = options.chunkBytes ?? CHUNK_BYTES;
    this.#http = new RegistryHttp(options);
  }

  async hasBlob(digest: string): Promise<boolean> {
    const answer = await this.#http.send({
      method: "HEAD",
      path: this.#blob(digest),
      action: "pull",
      accept: [200, 404],
    });
    return answer.status === 200;
  }

  /**
   * Makes the repository hold the blob: nothing to do when it does, mounted when `mountFrom` has it, else uploaded.
   * @returns bytes sent
   * @throws PublishFault
   */
  async pushBlob(descriptor: Descriptor, blob: Blob, mountFrom?: string): Promise<number> {
    let upload: ChunkedUpload | undefined;
    return await this.#http.retrying(async (progress) => {
      if (await this.hasBlob(descriptor.digest)) return 0;
      if (upload === undefined) {
        const started = await this.#startUpload(descriptor.digest, mountFrom);
        if (started.status === 201) return 0; // mounted
        if (descriptor.size <= this.#chunkBytes) {
          await this.#finish(locationOf(started, this.name), descriptor, blob);
          return descriptor.size;
        }
        const settings = { http: this.#http, name: this.name, chunkBytes: this.#chunkBytes };
        upload = new ChunkedUpload(settings, started, descriptor, blob);
      }
      try {
        await upload.send(progress);
      } catch (error) {
        if (error instanceof PublishFault && error.status === 404) upload = undefined; // forgotten: begin anew
        throw error;
      }
      return descriptor.size;
    });
  }

  /**
   * @param reference  tag or digest
   * @returns the manifest's digest, which the registry was seen to agree with
   */
  async pushManifest(reference: string, mediaType: string, bytes: Uint8Array): Promise<string> {
    const digest = digestOf(bytes);
    return await this.#http.retrying(async () => {
      const answer = await this.#http.send({
        method: "PUT",
        path: this.#manifest(reference),
        action: "push",
        headers: { "content-type": mediaType },
        body: bytes,
        accept: [201, 202],
      });
      const confirmed = answer.header("docker-content-digest");
      if (confirmed !== undefined && confirmed !== digest) {
        throw new PublishFault("DigestMismatch", `${this.name} stored ${reference} under a digest that is not its own`);
      }
      return digest;
    });
  }

  /**
   * @param reference  tag or digest
   * @throws PublishFault "NotFound" | "TooLarge" | "DigestMismatch" …
   */
  async pullManifest(reference: string): Promise<{ digest: string; mediaType: string; bytes: Uint8Array }> {
    return await this.#http.retrying(async () => {
      const answer = await this.#http.send({
        method: "GET",
        path: this.#manifest(reference),
        action: "pull",
        headers: { accept: MANIFEST_TYPES },
        accept: [200],
      });
      const bytes = await answer.bytes(MANIFEST_BYTES);
      const digest = digestOf(bytes);
      const claimed = reference.startsWith("sha256:") ? reference : answer.header("docker-content-digest");
      if (claimed !== undefined && claimed !== digest) {
        throw new PublishFault("DigestMismatch", `${this.name} gave a manifest that is not ${claimed}`);
      }
      return { digest, mediaType: (answer.header("content-type") ?? "").split(";")[0]!.trim(), bytes };
    });
  }

  /**
   * Writes a blob to a file, which appears under its name verified and fsynced, or not at all.
   * @throws PublishFault "NotFound" | "DigestMismatch" (also for a blob of another length) …
   */
  async pullBlob(descriptor: Pick<Descriptor, "digest" | "size">, file: string): Promise<void> {
    const partial = `${file}.partial`;
    try {
      await this.#http.retrying(async () => {
        const answer = await this.#http.send({
          method: "GET",
          path: this.#blob(descriptor.digest),
          action: "pull",
          accept: [200],
        });
        const check = new BoundedHash(descriptor.size);
        await answer.reading((body) => pipeline(body, check, createWriteStream(partial, { mode: 0o600, flush: true })));
        if (check.bytes !== descriptor.size || check.digest() !== descriptor.digest) {
          throw new PublishFault(
            "DigestMismatch",
            `${this.name} gave ${check.bytes} bytes that are not ${descriptor.digest}`,
          );
        }
      });
      effect("file", `write ${basename(partial)}`);
      await rename(partial, file);
      effect("file", `rename ${basename(file)}`);
    } catch (error) {
      await rm(partial, { force: true });
      effect("file", `remove ${basename(partial)}`);
      throw error;
    }
  }

  async #startUpload(digest: string, mountFrom: string | undefined): Promise<Answer> {
    const query = mountFrom === undefined ? "" : `?mount=${digest}&from=${encodeURIComponent(mountFrom)}`;
    return await this.#http.send({
      method: "POST",
      path: `/v2/${this.#repository}/blobs/uploads/${query}`,
      action: "push",
      alsoPull: mountFrom,
      accept: [201, 202],
    });
  }

  async #finish(location: URL, descriptor: Descriptor, blob: Blob): Promise<void> {
    await this.#http.send({
      method: "PUT",
      url: withDigest(location, descriptor.digest),
      action: "push",
      headers: { "content-type": "application/octet-stream", "content-length": String(descriptor.size) },
      body: () => ("bytes" in blob ? blob.bytes : createReadStream(blob.file)),
      accept: [201],
    });
  }

  #blob(digest: string): string {
    return `/v2/${this.#repository}/blobs/${digest}`;
  }

  #manifest(reference: string): string {
    return `/v2/${this.#repository}/manifests/${reference}`;
  }
}

export function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

/** Digest and size of a file, streamed through one buffer. */
export async function describeFile(file: string, mediaType: string): Promise<Descriptor> {
  await using handle = await open(file, "r");
  const hash = createHash("sha256");
  const buffer = Buffer.allocUnsafe(1 << 20);
  let size = 0;
  for (;;) {
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, size);
    if (bytesRead === 0) break;
    hash.update(buffer.subarray(0, bytesRead));
    size += bytesRead;
  }
  return { mediaType, digest: `sha256:${hash.digest("hex")}`, size };
}
