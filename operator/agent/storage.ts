/**
 * Whether the agent's volume has room: looked at every few seconds, and at once when a write has found none.
 * Holds: below a reserve nothing large is begun (a download, a trained adapter), so that the ledger has room for how rounds end; `problem`
 *   changes with the volume, and `changed` is called then; it goes by itself when there is room again.
 * Does not: free space, or wait: who finds none tries again (work.ts), and the ledger waits in its journal.
 */
import { statfs } from "node:fs/promises";
import type { Logger } from "pino";
import type { Problem } from "./problems.ts";

/** What the ledger may grow by until the rounds under way have ended; of a small volume an eighth. */
const RESERVE_BYTES = 64 << 20;
const RESERVE_PART = 8;
/** Room is there again when a quarter more than the reserve is: else the next file would end it. */
const ROOM_AGAIN = 1.25;
const LOOK_MS = 5_000;
/** While it is full somebody waits for it. */
const LOOK_FULL_MS = 1_000;

export interface StorageOptions {
  folder: string;
  log: Logger;
  /** Of the folder's file system, in bytes; an argument, so that a test can fill it. */
  spaceOf?: (folder: string) => Promise<{ free: number; total: number }>;
}

export class AgentStorage {
  /** Called when `problem` is another than before. */
  changed: () => void = () => {};
  readonly #options: StorageOptions;
  #problem: Problem | undefined;
  #isLow = false;
  #isLedgerFull = false;
  #timer: NodeJS.Timeout | undefined;
  #isStopped = false;

  constructor(options: StorageOptions) {
    this.#options = options;
  }

  /** For the round's status and the site's people; undefined: there is room. */
  get problem(): Problem | undefined {
    return this.#problem;
  }

  /** Commits wait for room, and whoever waits for them does. */
  get isLedgerFull(): boolean {
    return this.#isLedgerFull;
  }

  async start(): Promise<void> {
    await this.#look();
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
  }

  /** A write met ENOSPC. */
  noteFull(): void {
    this.#isLow = true;
    this.#judge();
    this.#lookIn(0);
  }

  /** What openJournal() tells. */
  noteLedger(isFull: boolean): void {
    this.#isLedgerFull = isFull;
    this.#judge();
    this.#lookIn(0);
  }

  async #look(): Promise<void> {
    const { folder, log, spaceOf = spaceOfVolume } = this.#options;
    try {
      const { free, total } = await spaceOf(folder);
      const reserve = Math.min(RESERVE_BYTES, total / RESERVE_PART);
      this.#isLow = free < reserve * (this.#isLow ? ROOM_AGAIN : 1);
    } catch (error) {
      log.warn({ err: error, folder }, "free space could not be read");
    }
    this.#judge();
    this.#lookIn(this.#problem ? LOOK_FULL_MS : LOOK_MS);
  }

  #lookIn(afterMs: number): void {
    clearTimeout(this.#timer);
    if (this.#isStopped) return;
    this.#timer = setTimeout(() => void this.#look(), afterMs);
    this.#timer.unref();
  }

  #judge(): void {
    const isShort = this.#isLow || this.#isLedgerFull;
    if (isShort === (this.#problem !== undefined)) return;
    this.#problem = isShort ? STORAGE_FULL : undefined;
    const { folder, log } = this.#options;
    if (isShort) log.error({ folder }, "the volume has no room; rounds wait for it");
    else log.info({ folder }, "the volume has room again");
    this.changed();
  }
}

/** Without figures and paths: it goes to the operator. */
export const STORAGE_FULL: Problem = {
  reason: "StorageFull",
  message: "the agent's volume at the site is full; its work goes on by itself when there is room again",
};

export const STORAGE_FULL_AT_SITE =
  "The agent's volume is full: no plan is begun and no adapter is taken until there is room; enlarge it, or remove what is not the agent's";

/** Whether an error, or what it was made of, says that a disk is full. */
export function isDiskFull(error: unknown): boolean {
  const { code, cause, message } = (error ?? {}) as { code?: unknown; cause?: unknown; message?: unknown };
  if (code === "ENOSPC" || code === "DiskFull") return true;
  // A thread's errors come as text.
  if (typeof message === "string" && message.includes("ENOSPC")) return true;
  return cause !== undefined && isDiskFull(cause);
}

async function spaceOfVolume(folder: string): Promise<{ free: number; total: number }> {
  const { bavail, blocks, bsize } = await statfs(folder);
  return { free: bavail * bsize, total: blocks * bsize };
}
