/**
 * Whether the operator's volume has room. It looks every few seconds, and at once when a write has found none.
 * Holds: below the reserve nothing new is let in (plans, uploads), so that what is under way can be journalled to its end; `problem` changes
 *   only when there is room again or no more, and then `changed` is called: nobody has to poll.
 * Does not: free space, nor wait: whoever finds no room is asked again when there is some.
 */
import { statfs } from "node:fs/promises";
import type { Logger } from "pino";
import { TransportFault } from "../transport/faults.ts";

/** The volume fills in minutes, not in seconds; what is faster meets ENOSPC, and that is told at once. */
const LOOK_MS = 5_000;
/** While it is full somebody waits for every byte. */
const LOOK_FULL_MS = 1_000;
/** Room is there again when a quarter more than the reserve is: else one upload more would end it. */
const ROOM_AGAIN = 1.25;
/** An upload that found no room is tried again within a minute, or nobody wants it any more. */
const WANTED_FOR_MS = 60_000;

export interface StorageOptions {
  folder: string;
  reserveBytes: number;
  log: Logger;
  now: () => number;
  /** Free bytes of the folder's file system; an argument, so that a test can fill the disk. */
  freeBytes?: (folder: string) => Promise<number>;
}

export class Storage {
  /** Called when `problem` is another than before. */
  changed: () => void = () => {};
  /** As last seen; undefined: not looked yet. */
  freeBytes: number | undefined;
  readonly #options: StorageOptions;
  #problem: string | undefined;
  /** Below the reserve, or a write found no room: nothing new is let in. */
  #isFull = false;
  #journalIsFull = false;
  readonly #onJournalFull = new Set<() => void>();
  #wanted: { bytes: number; untilMs: number } | undefined;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(options: StorageOptions) {
    this.#options = options;
  }

  /** Why rounds wait for room, as a sentence that says what to do; undefined: they do not. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Commits wait: a decision that changes a record would not return before there is room. */
  get journalIsFull(): boolean {
    return this.#journalIsFull;
  }

  /** @returns a function that takes the listener away */
  onJournalFull(listener: () => void): () => void {
    this.#onJournalFull.add(listener);
    return () => this.#onJournalFull.delete(listener);
  }

  async start(): Promise<void> {
    await this.#look();
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  /** @throws TransportFault "DiskFull" */
  requireRoom(): void {
    if (this.#isFull || this.#journalIsFull) throw new TransportFault("DiskFull", this.#sentence());
  }

  /** A write met ENOSPC. */
  noteFull(): void {
    this.#isFull = true;
    this.#judge();
    // Not at once: where there is room by the count and yet none for a file, whoever is woken would come back without end.
    this.#again(LOOK_FULL_MS);
  }

  /** What openJournal() tells. */
  noteJournal(isFull: boolean): void {
    this.#journalIsFull = isFull;
    this.#judge();
    if (isFull) for (const listener of [...this.#onJournalFull]) listener();
    this.#again(0);
  }

  /** An upload was refused that needs so many free bytes. */
  noteWanted(bytes: number): void {
    this.#wanted = { bytes, untilMs: this.#options.now() + WANTED_FOR_MS };
    this.#judge();
    this.#again(LOOK_FULL_MS);
  }

  async #look(): Promise<void> {
    const { folder, reserveBytes, freeBytes = freeBytesOf, log } = this.#options;
    try {
      this.freeBytes = await freeBytes(folder);
      this.#isFull = this.freeBytes < reserveBytes * (this.#isFull ? ROOM_AGAIN : 1);
      const { bytes = 0, untilMs = 0 } = this.#wanted ?? {};
      if (this.freeBytes >= bytes || this.#options.now() >= untilMs) this.#wanted = undefined;
    } catch (error) {
      log.warn({ err: error, folder }, "free space could not be read");
    }
    this.#judge();
    this.#again(this.#problem === undefined ? LOOK_MS : LOOK_FULL_MS);
  }

  #again(afterMs: number): void {
    clearTimeout(this.#timer);
    if (this.#stopped) return;
    this.#timer = setTimeout(() => void this.#look(), afterMs);
    this.#timer.unref();
  }

  #judge(): void {
    const isShort = this.#isFull || this.#journalIsFull || this.#wanted !== undefined;
    const problem = isShort ? (this.#problem ?? this.#sentence()) : undefined;
    if (problem === this.#problem) return;
    this.#problem = problem;
    const { folder, log } = this.#options;
    if (problem === undefined) log.info({ folder, freeBytes: this.freeBytes }, "the volume has room again");
    else log.error({ folder, freeBytes: this.freeBytes }, "the volume has no room; rounds wait for it");
    this.changed();
  }

  #sentence(): string {
    const { folder, reserveBytes } = this.#options;
    const needed = Math.ceil(Math.max(reserveBytes * ROOM_AGAIN, this.#wanted?.bytes ?? 0) / 2 ** 20);
    return `the operator's volume (${folder}) is full: ${needed} MiB must be free; enlarge it or remove what is not the operator's, and rounds go on by themselves`;
  }
}

/** Whether an error, or what it was made of, says that a disk is full. */
export function isDiskFull(error: unknown): boolean {
  const { code, cause, message } = (error ?? {}) as { code?: unknown; cause?: unknown; message?: unknown };
  if (code === "ENOSPC" || code === "DiskFull") return true;
  // A thread's errors come as text.
  if (typeof message === "string" && message.includes("ENOSPC")) return true;
  return cause !== undefined && isDiskFull(cause);
}

async function freeBytesOf(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize;
}
