/** Passes bytes through, hashes them, and stops what is longer than it may be: a registry cannot fill our disk. */
import { createHash } from "node:crypto";
import { Transform, type TransformCallback } from "node:stream";
import { PublishFault } from "./fault.ts";

export class BoundedHash extends Transform {
  readonly #hash = createHash("sha256");
  readonly #limit: number;
  bytes = 0;

  constructor(limit: number) {
    super();
    this.#limit = limit;
  }

  override _transform(chunk: Uint8Array, _encoding: BufferEncoding, done: TransformCallback): void {
    this.bytes += chunk.length;
    if (this.bytes > this.#limit) {
      done(new PublishFault("DigestMismatch", `a blob is longer than the ${this.#limit} bytes its manifest says`));
      return;
    }
    this.#hash.update(chunk);
    done(null, chunk);
  }

  /** Once, after the last byte. */
  digest(): string {
    return `sha256:${this.#hash.digest("hex")}`;
  }
}
