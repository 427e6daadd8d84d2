/**
 * Opens a journal: the main-thread side of worker.ts.
 * Holds: requests are answered in the order they were made; when the thread dies, everything unanswered fails and nothing hangs.
 */
import { basename } from "node:path";
import { Worker } from "node:worker_threads";
import { effect } from "../fault-injection.ts";
import { threadFile } from "../threads.ts";
import { type Increment, type Journal, JournalFault, type Write } from "./journal.ts";
import type { JournalAnswer, JournalCall, JournalNotice, JournalReply, JournalWorkerData } from "./messages.ts";

export interface JournalOptions {
  /**
   * A full disk fails nothing: whatever is asked waits for room, in its order, the opening too. Told when that begins and when it ends.
   * close() does not wait: what is unanswered then fails with "DiskFull".
   */
  onFull?: (isFull: boolean) => void;
}

/**
 * Opens or creates the journal at `path` (its folder exists, on a block volume) with its `-wal` file beside it, both 0600.
 * @throws JournalFault "Corrupt" when the file is damaged or not a journal, "Failed" when another process has it open
 */
export async function openJournal(path: string, { onFull }: JournalOptions = {}): Promise<Journal> {
  const data: JournalWorkerData = { path, waitsForRoom: onFull !== undefined };
  // No execArgv: options of the main thread (heap sizes, -e) are not meant for this one.
  const worker = new Worker(threadFile("journal/worker"), { workerData: data, execArgv: [] });
  const journal = new ThreadedJournal(worker, onFull);
  await journal.opened;
  effect("journal", `open ${basename(path)}`);
  return journal;
}

interface Waiting {
  resolve(answer: JournalAnswer): void;
  reject(fault: JournalFault): void;
}

function named(write: Write): string {
  if ("remove" in write) return `remove ${write.remove.space}/${write.remove.key}`;
  if ("insert" in write) return `insert ${write.insert.space}/${write.insert.key}`;
  return `put ${write.put.space}/${write.put.key}`;
}

class ThreadedJournal implements Journal {
  readonly opened: Promise<unknown>;
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiting>();
  #lastId = 0;
  #ended: JournalFault | undefined;
  #closing: Promise<void> | undefined;

  constructor(worker: Worker, onFull: JournalOptions["onFull"]) {
    this.#worker = worker;
    this.opened = new Promise((resolve, reject) => this.#waiting.set(0, { resolve, reject }));
    worker.on("message", (message: JournalReply | JournalNotice) => {
      if ("isFull" in message) onFull?.(message.isFull);
      else this.#settle(message);
    });
    worker.on("error", (error) =>
      this.#end(new JournalFault("Failed", `The journal's thread failed: ${error.message}`)),
    );
    worker.on("exit", () => this.#end(new JournalFault("Closed", "The journal is closed")));
  }

  async get(space: string, key: string): Promise<Uint8Array | undefined> {
    return (await this.#ask({ do: "get", space, key })) as Uint8Array | undefined;
  }

  async entries(space: string, prefix = ""): Promise<Array<{ key: string; value: Uint8Array }>> {
    return (await this.#ask({ do: "entries", space, prefix })) as Array<{ key: string; value: Uint8Array }>;
  }

  async commit(writes: Write[]): Promise<void> {
    await this.#ask({ do: "commit", writes });
    effect("journal", () => writes.map(named).join(", "));
  }

  async increment(counter: string, options: Increment = {}): Promise<number> {
    const number = (await this.#ask({ do: "increment", counter, ...options })) as number;
    effect("journal", `count ${counter}`);
    return number;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    if (this.#ended) return;
    const exited = new Promise<void>((resolve) => this.#worker.once("exit", () => resolve()));
    const answered = this.#ask({ do: "close" });
    this.#ended = new JournalFault("Closed", "The journal is closed");
    await answered;
    await exited;
  }

  #ask(call: JournalCall): Promise<JournalAnswer> {
    if (this.#ended) return Promise.reject(this.#ended);
    this.#lastId += 1;
    const id = this.#lastId;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ ...call, id });
    });
  }

  #settle(reply: JournalReply): void {
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if ("fault" in reply) waiting?.reject(new JournalFault(reply.fault.code, reply.fault.message));
    else waiting?.resolve(reply.answer);
  }

  #end(fault: JournalFault): void {
    this.#ended ??= fault;
    for (const waiting of this.#waiting.values()) waiting.reject(fault);
    this.#waiting.clear();
  }
}
