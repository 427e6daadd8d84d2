/**
 * A blob sent in pieces (PATCH … PATCH PUT), so that an interruption costs one piece and not the blob.
 * Holds: after a fault, `send` again asks the registry what it holds and goes on from there; an upload that the registry
 *   has forgotten (it was killed, or cleaned up) is begun anew. Each piece is at most chunkBytes of memory.
 * Does not: retry by itself (RegistryHttp.retrying).
 */
import { open } from "node:fs/promises";
import { PublishFault } from "./fault.ts";
import type { Blob, Descriptor } from "./oci.ts";
import type { Answer, RegistryHttp } from "./registry-http.ts";

export class ChunkedUpload {
  readonly #http: RegistryHttp;
  readonly #name: string;
  readonly #descriptor: Descriptor;
  readonly #blob: Blob;
  /** One for all pieces: a piece has left when its answer comes. */
  readonly #buffer: Buffer;
  #location: URL;
  #offset = 0;
  #isKnown = true;

  /** @param started  the answer to the POST that began the upload */
  constructor(
    { http, name, chunkBytes }: { http: RegistryHttp; name: string; chunkBytes: number },
    started: Answer,
    descriptor: Descriptor,
    blob: Blob,
  ) {
    this.#http = http;
    this.#name = name;
    this.#descriptor = descriptor;
    this.#blob = blob;
    this.#buffer = Buffer.allocUnsafe(Math.min(Math.max(chunkBytes, minimumChunk(started)), descriptor.size));
    this.#location = locationOf(started, name);
  }

  /**
   * @param progress  called after each piece
   * @throws PublishFault; "RegistryUnreachable" to be called again
   */
  async send(progress: () => void): Promise<void> {
    if (!this.#isKnown) await this.#resume();
    this.#isKnown = false; // until this ends well, the registry may hold more or less than we know
    while (this.#offset < this.#descriptor.size) {
      await this.#sendChunk();
      progress();
    }
    const url = withDigest(this.#location, this.#descriptor.digest);
    await this.#http.send({ method: "PUT", url, action: "push", headers: { "content-length": "0" }, accept: [201] });
  }

  async #sendChunk(): Promise<void> {
    const end = Math.min(this.#offset + this.#buffer.length, this.#descriptor.size);
    const answer = await this.#http.send({
      method: "PATCH",
      url: this.#location,
      action: "push",
      headers: { "content-type": "application/octet-stream", "content-range": `${this.#offset}-${end - 1}` },
      body: await fill(this.#buffer.subarray(0, end - this.#offset), this.#blob, this.#offset),
      accept: [202],
    });
    this.#location = locationOf(answer, this.#name);
    this.#offset = end;
  }

  async #resume(): Promise<void> {
    const answer = await this.#http.send({ method: "GET", url: this.#location, action: "push", accept: [204] });
    const last = /^(?:bytes=)?0-(\d+)$/.exec(answer.header("range") ?? "")?.[1];
    // distribution says "0-0" for an upload of nothing as for one byte; nobody sends pieces of one byte.
    const held = last === undefined || last === "0" ? 0 : Number(last) + 1;
    if (held > this.#descriptor.size) throw new PublishFault("Refused", `${this.#name} holds more than was sent`);
    this.#location = locationOf(answer, this.#name);
    this.#offset = held;
  }
}

/** Absolute, or relative to what was asked. */
export function locationOf(answer: Answer, name: string): URL {
  const location = answer.header("location");
  if (location === undefined) throw new PublishFault("Refused", `${name} gave an upload no location`);
  const url = URL.parse(location, answer.url.href);
  if (url === null) throw new PublishFault("Refused", `${name} gave an upload a location that is no address`);
  // A registry that does not know of the TLS before it names itself by http: the adapter would go in the clear.
  if (answer.url.protocol === "https:" && url.protocol !== "https:")
    throw new PublishFault("Refused", `${name} wants an upload by http instead of https; not followed`);
  return url;
}

/** Some registries put state into the query of a location: it is kept. */
export function withDigest(location: URL, digest: string): URL {
  const url = new URL(location);
  url.searchParams.set("digest", digest);
  return url;
}

async function fill(bytes: Buffer, blob: Blob, offset: number): Promise<Uint8Array> {
  if ("bytes" in blob) return blob.bytes.subarray(offset, offset + bytes.length);
  await using file = await open(blob.file, "r");
  const { bytesRead } = await file.read(bytes, 0, bytes.length, offset);
  if (bytesRead !== bytes.length) throw new Error(`${blob.file} became shorter while it was sent`);
  return bytes;
}

function minimumChunk(answer: Answer): number {
  const bytes = Number(answer.header("oci-chunk-min-length") ?? 0);
  return Number.isSafeInteger(bytes) && bytes > 0 ? Math.min(bytes, 64 << 20) : 0;
}
