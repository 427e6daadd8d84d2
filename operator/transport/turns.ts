/**
 * How many uploads, or downloads, are under way at a time. Each takes some MiB of buffers on its way through TLS, HTTP/2 and gRPC, and two hundred
 * begin with the same step of a round.
 * Holds: in the order of arrival; nobody waits for the slow: whoever has had a turn for `patienceMs` goes on without it.
 */

export interface TurnsOptions {
  atOnce: number;
  patienceMs: number;
}

/**
 * 8 fill any link when they are near, at one chunk each; far away, where they would not, the next 8 begin after a second, and the last of
 * 256 sites after half a minute, which is little beside what a vector takes over such a line. 16 at once took 30 MiB more of buffers.
 */
export const TRANSFERS: TurnsOptions = { atOnce: 8, patienceMs: 1_000 };

export class Turns {
  readonly #patienceMs: number;
  readonly #waiting: Array<() => void> = [];
  #free: number;

  constructor({ atOnce, patienceMs }: TurnsOptions) {
    this.#free = atOnce;
    this.#patienceMs = patienceMs;
  }

  /** Does the work when its turn has come; the turn ends with the work, or before. */
  async take<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    let isOver = false;
    const over = () => {
      if (isOver) return;
      isOver = true;
      clearTimeout(timer);
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free += 1;
    };
    const timer = setTimeout(over, this.#patienceMs);
    try {
      return await work();
    } finally {
      over();
    }
  }
}
