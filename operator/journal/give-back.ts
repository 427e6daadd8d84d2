/**
 * Frees the memory of bytes that nobody reads any more, at once. Left to the garbage collector each thread keeps 64 MiB of dead buffers: they
 * are outside of its heap, and it begins to count them late.
 */

/** Below that it is not worth the call, and Node shares one buffer among small arrays. */
const LEAST_BYTES = 16 * 2 ** 10;
/** What a message has around the bytes that it carries. */
const MOST_AROUND_BYTES = 64;

/** @param bytes  fill the buffer that they lie in, but for a few bytes; else nothing happens */
export function giveBack({ buffer, byteLength }: Uint8Array): void {
  const isWhole = buffer.byteLength - byteLength <= MOST_AROUND_BYTES;
  if (isWhole && byteLength >= LEAST_BYTES && buffer instanceof ArrayBuffer) buffer.transfer(0);
}
