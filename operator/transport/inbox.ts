/**
 * Reads a gRPC stream one message at a time.
 * Holds: what was not asked for is not read, up to one message ahead, so that a slow reader slows the sender down (protocol.md "Back-pressure").
 */
import type { Readable, Writable } from "node:stream";
import { effect } from "../fault-injection.ts";
import { TransportFault } from "./faults.ts";

export class Inbox<T> {
  readonly #stream: Readable;
  #failure: unknown;
  #wake: () => void = () => {};
  #ended = false;

  constructor(stream: Readable) {
    this.#stream = stream;
    // grpc-js makes its streams for 16 messages ahead, which is 16 MiB of an upload, and offers no option.
    (stream as unknown as { _readableState: { highWaterMark: number } })._readableState.highWaterMark = 1;
    stream.on("readable", () => this.#wake());
    stream.on("error", (error) => this.fail(error));
    for (const event of ["end", "close", "cancelled"]) {
      stream.on(event, () => {
        this.#ended = true;
        this.#wake();
      });
    }
  }

  /**
   * The next message; undefined when the other side has ended the stream or is gone.
   * @param mostMs  how long to wait; undefined: as long as the stream lives
   * @throws TransportFault "TimedOut", whatever fail() was given, or the stream's own error
   */
  async next(mostMs?: number): Promise<T | undefined> {
    let isLate = false;
    const late = () => {
      isLate = true;
      this.#wake();
    };
    const timer = mostMs === undefined ? undefined : setTimeout(late, mostMs);
    try {
      for (;;) {
        this.throwIfFailed();
        const message: T | null = this.#stream.read();
        if (message !== null) return message;
        this.throwIfFailed(); // reading may have met the stream's error
        if (this.#ended) return undefined;
        if (isLate) throw new TransportFault("TimedOut", `Nothing arrived for ${mostMs} ms`);
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      clearTimeout(timer);
    }
  }

  throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Ends the waiting and all later reading with this error. The first one counts. */
  fail(error: unknown): void {
    this.#failure ??= error;
    this.#wake();
  }
}

/**
 * Writes one message; resolves when it has left for the connection, so that a caller who waits holds one message and no queue.
 * @throws TransportFault "TimedOut" when it does not leave within `mostMs`, "Unavailable" when the stream ends first
 */
export function writeMessage(stream: Writable, message: unknown, mostMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error?: unknown) => {
      clearTimeout(timer);
      for (const event of ENDS) stream.off(event, ended);
      if (error) reject(error);
      else {
        hasLeft(message)();
        resolve();
      }
    };
    const ended = (error?: unknown) =>
      settle(error instanceof Error ? error : new TransportFault("Unavailable", "The connection ended"));
    const timer = setTimeout(
      () => settle(new TransportFault("TimedOut", `The other side took nothing for ${mostMs} ms`)),
      mostMs,
    );
    for (const event of ENDS) stream.on(event, ended);
    if (stream.destroyed || stream.writableEnded) {
      ended();
      return;
    }
    stream.write(message, (error) => settle(error ?? undefined));
  });
}

/** What a write that nobody waits for calls when its message is on the way. */
export function hasLeft(message: unknown): (error?: Error | null) => void {
  return (error) => {
    if (!error) effect("grpc", () => `send ${nameOf(message as Partial<AnyMessage>)}`);
  };
}

interface AnyMessage {
  signed: { kind: string };
  message: { $case: string; value: { step?: { $case?: string } } };
}

function nameOf({ signed, message }: Partial<AnyMessage>): string {
  if (signed) return signed.kind;
  const within = message?.value?.step?.$case;
  return within ? `${message.$case} ${within}` : (message?.$case ?? "piece");
}

const ENDS = ["error", "close", "cancelled"];
