/**
 * Bodies of the task API: small JSON into memory, an adapter into its file.
 * Holds: nothing beyond the limit is kept; a file appears under its name whole and fsynced, or not at all.
 */
import { createHash } from "node:crypto";
import { open, rename, rm } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { basename, dirname } from "node:path";
import type { z } from "zod";
import { effect } from "../fault-injection.ts";

/** Answered to the trainer with this status and sentence. */
export class TaskFault extends Error {
  override readonly name = "TaskFault";
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** @throws TaskFault 413 | 400 | 422 */
export async function receiveJson<T extends z.ZodType>(
  request: IncomingMessage,
  schema: T,
  limitBytes: number,
): Promise<z.infer<T>> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > limitBytes) throw new TaskFault(413, `the body is larger than ${limitBytes} bytes`);
    chunks.push(chunk);
  }
  let value: unknown;
  try {
    // Python's json writes NaN and Infinity as words that JSON does not have; a diverged loss is then simply not a number.
    value = JSON.parse(
      Buffer.concat(chunks)
        .toString("utf8")
        .replace(/(?<=[:,[]\s*)(NaN|-?Infinity)(?=\s*[,\]}])/g, "null"),
    );
  } catch {
    throw new TaskFault(400, "the body is not JSON");
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new TaskFault(422, `${issue?.path.join(".") || "body"}: ${issue?.message ?? "is not valid"}`);
}

/** A body comes in TLS records of 16 KiB at most; a write of each would cost more in thread switches than in writing. */
const WRITE_BYTES = 1 << 20;

/** Streams the body to `file` (through `file`.part). @throws TaskFault 413 when it is larger than `limitBytes`, 400 when it breaks off */
export async function receiveFile(
  request: IncomingMessage,
  file: string,
  limitBytes: number,
): Promise<{ sha256: string; byteLength: number }> {
  const tooLarge = () => new TaskFault(413, `the adapter is larger than the ${limitBytes} bytes that were planned`);
  const announced = Number(request.headers["content-length"] ?? 0);
  if (announced > limitBytes) throw tooLarge();
  const part = `${file}.part`;
  const handle = await open(part, "w", 0o600);
  const hash = createHash("sha256");
  const gathered = Buffer.allocUnsafe(WRITE_BYTES);
  let filled = 0;
  const write = async () => {
    const bytes = gathered.subarray(0, filled);
    hash.update(bytes);
    await handle.writeFile(bytes); // unlike write(), never only a part of it
    filled = 0;
  };
  let byteLength = 0;
  try {
    for await (const chunk of request as AsyncIterable<Buffer>) {
      byteLength += chunk.length;
      if (byteLength > limitBytes) throw tooLarge();
      for (let from = 0; from < chunk.length; ) {
        const copied = chunk.copy(gathered, filled, from);
        filled += copied;
        from += copied;
        if (filled === gathered.length) await write();
      }
    }
    await write();
    if (request.headers["content-length"] !== undefined && byteLength !== announced) {
      throw new TaskFault(400, "the body broke off before its end");
    }
    await handle.sync();
    effect("file", `write ${basename(part)}`);
  } catch (error) {
    await handle.close();
    await rm(part, { force: true });
    effect("file", `remove ${basename(part)}`);
    throw error;
  }
  await handle.close();
  await rename(part, file);
  await syncDirectory(dirname(file));
  effect("file", `rename ${basename(file)}`);
  return { sha256: hash.digest("hex"), byteLength };
}

/** A rename is durable only when its directory is. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
