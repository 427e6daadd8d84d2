/**
 * One watch request as a stream of events.
 * Holds: it ends. By the server after timeoutSeconds, by our own deadline shortly after that, or by silence: an API server
 *   sends a bookmark about every minute, so nothing at all for SILENCE_MS means that nobody is there any more.
 * Does not: reconnect (cache.ts).
 */
import { StringDecoder } from "node:string_decoder";
import { type Connection, readBody } from "./connection.ts";
import { startDeadline } from "./deadline.ts";
import { faultOfAnswer, faultOfStatus, KubeFault } from "./faults.ts";
import type { KubeObject, ResourceKind } from "./objects.ts";
import { collectionPath, withQuery } from "./paths.ts";

/** A BOOKMARK carries only a resourceVersion. */
export type WatchEvent<T> =
  | { type: "ADDED" | "MODIFIED" | "DELETED"; object: T }
  | { type: "BOOKMARK"; object: KubeObject };

export type WatchOptions = {
  resourceVersion: string;
  namespace?: string;
  labelSelector?: string;
  fieldSelector?: string;
  /** After this the server ends the watch. */
  timeoutSeconds: number;
  /** Default SILENCE_MS. */
  silenceMs?: number;
  signal?: AbortSignal;
};

/** Three bookmark intervals. */
const SILENCE_MS = 180_000;
/** What the server may be late with its own end. */
const GRACE_MS = 15_000;

/** @throws KubeFault "Gone" (list again), "Timeout" (silence), "Unreachable" (cut in the middle), and those of any call */
export async function* watchEvents<T extends KubeObject>(
  connection: Connection,
  kind: ResourceKind<T>,
  options: WatchOptions,
): AsyncGenerator<WatchEvent<T>> {
  const { namespace, labelSelector, fieldSelector, timeoutSeconds, resourceVersion } = options;
  const what = `watch ${kind.plural}`;
  const silenceMs = options.silenceMs ?? SILENCE_MS;
  const end = startDeadline(timeoutSeconds * 1000 + GRACE_MS, options.signal);
  const silence = startDeadline(silenceMs, end.signal);
  const query = {
    watch: true,
    allowWatchBookmarks: true,
    resourceVersion,
    timeoutSeconds,
    labelSelector,
    fieldSelector,
  };
  try {
    const answer = await connection.open({
      method: "GET",
      path: withQuery(collectionPath(kind, namespace), query),
      headers: { Accept: "application/json" },
      signal: silence.signal,
    });
    const status = answer.statusCode ?? 0;
    if (status !== 200) {
      throw faultOfAnswer(what, status, await readBody(answer), {
        retryAfter: answer.headers["retry-after"],
        secret: false,
      });
    }
    for await (const line of lines(answer, silence.restart)) {
      const event = JSON.parse(line) as { type: string; object: unknown };
      if (event.type === "ERROR") throw faultOfStatus(what, event.object);
      yield event as WatchEvent<T>;
    }
  } catch (error) {
    if (error instanceof KubeFault) throw error;
    if (end.isOver()) throw new KubeFault("Timeout", `${what}: the server did not end it in time`);
    if (silence.isOver()) throw new KubeFault("Timeout", `${what}: silent for ${silenceMs} ms`);
    if (options.signal?.aborted) throw new KubeFault("Aborted", `${what}: aborted`);
    const { code, message } = error as NodeJS.ErrnoException;
    throw new KubeFault("Unreachable", `${what}: ${code ?? message}`);
  } finally {
    silence.end();
    end.end();
  }
}

async function* lines(stream: AsyncIterable<Buffer>, heard: () => void): AsyncGenerator<string> {
  const decoder = new StringDecoder("utf8");
  let rest: string[] = [];
  for await (const chunk of stream) {
    heard();
    const pieces = decoder.write(chunk).split("\n");
    // An object of a megabyte comes in many chunks: collect, and join once, instead of growing a string again and again.
    const last = pieces.pop()!;
    for (const piece of pieces) {
      rest.push(piece);
      const line = rest.join("");
      rest = [];
      if (line) yield line;
    }
    rest.push(last);
  }
  const unended = rest.join("");
  if (unended) yield unended;
}
