/**
 * The worker threads of one round's sum, one after the other: where one dies or meets a disk that fails, the next begins from the spool.
 * Holds: what was asked of an earlier thread is answered by nobody any more; at most MOST_THREADS are tried, but a full disk costs no try.
 * Does not: ask again for what the thread before had done: whoever decides sees an empty sum and asks (operator/round).
 */
import type { threadFile } from "../../threads.ts";
import { isDiskFull } from "../storage.ts";
import { type Call, type Failed, SumThread } from "./sum-thread.ts";

/** What dies three times on the same files dies again. */
const MOST_THREADS = 3;

/** Whoever owns a sum hears of it. */
export interface SumListener {
  /** Its view may be another. */
  changed(): void;
  /** It could not write for want of room. */
  diskFull(): void;
  /** @param tries  threads that have ended so far */
  again(problem: string, tries: number): void;
}

/** The sum is being made again: what was asked of it comes later. */
export class SumAgain extends Error {
  override readonly name = "SumAgain";
}

export class SumThreads<Request extends { id: number }, Answer extends { id: number; kind: string }> {
  readonly #begin: () => SumThread<Request, Answer>;
  readonly #listener: SumListener;
  readonly #reset: (problem?: string) => void;
  #thread: SumThread<Request, Answer>;
  #tries = 0;
  #isClosed = false;

  /** @param reset  forgets what the thread before had done; with a problem: there will be no other thread */
  constructor(
    { file, data }: { file: Parameters<typeof threadFile>[0]; data: unknown },
    listener: SumListener,
    reset: (problem?: string) => void,
  ) {
    this.#begin = () => new SumThread(file, data, (problem) => this.#again(problem));
    this.#listener = listener;
    this.#reset = reset;
    this.#thread = this.#begin();
  }

  /** @returns undefined when nothing came of it: the sum is made again, or closed */
  async ask(call: Call<Request>): Promise<Exclude<Answer, Failed> | undefined> {
    const thread = this.#thread;
    const answer = await thread.ask(call);
    if (thread !== this.#thread || this.#isClosed) return undefined;
    if (answer.kind !== "failed") return answer as Exclude<Answer, Failed>;
    this.#again((answer as Failed).message);
    return undefined;
  }

  /** Why ask() returned nothing. */
  interruption(): Error {
    return this.#isClosed ? new Error("the sum is closed") : new SumAgain("the sum is made again from the spool");
  }

  close(): Promise<void> {
    this.#isClosed = true;
    return this.#thread.close();
  }

  #again(problem: string): void {
    if (this.#isClosed) return;
    const isFull = isDiskFull(new Error(problem));
    if (!isFull) this.#tries++;
    void this.#thread.close();
    if (this.#tries >= MOST_THREADS) {
      this.#isClosed = true;
      this.#reset(problem);
    } else {
      this.#thread = this.#begin();
      this.#reset();
      if (isFull) this.#listener.diskFull();
      else this.#listener.again(problem, this.#tries);
    }
    this.#listener.changed();
  }
}
