/**
 * One line per step of a longer piece of work: what is being done, for how long, how it ended.
 * On a terminal the line of a running step is redrawn in place; elsewhere (and with NO_COLOR) lines are plain and written once.
 */
const terminal = Boolean(process.stdout.isTTY) && !process.env.CI;
const coloured = terminal && !process.env.NO_COLOR;

const paint = (code: number) => (text: string) => (coloured ? `\x1b[${code}m${text}\x1b[0m` : text);
export const bold = paint(1);
export const dim = paint(2);
export const red = paint(31);
export const green = paint(32);
export const yellow = paint(33);

export const elapsed = (sinceMs: number) => `${((Date.now() - sinceMs) / 1000).toFixed(1)} s`;

export function say(line = ""): void {
  process.stdout.write(`${line}\n`);
}

/** Shows `title` with a running clock until `work` settles; returns its result and the seconds it took. */
export async function step<T>(title: string, work: (note: (text: string) => void) => Promise<T>): Promise<T> {
  const startedMs = Date.now();
  let remark = "";
  const draw = () => process.stdout.write(`\r\x1b[2K  … ${title} ${dim(`${elapsed(startedMs)} ${remark}`)}`);
  const timer = terminal ? setInterval(draw, 200) : undefined;
  if (!terminal) say(`  … ${title}`);
  const finish = (mark: string) => {
    clearInterval(timer);
    say(`${terminal ? "\r\x1b[2K" : ""}  ${mark} ${title} ${dim(elapsed(startedMs))}`);
  };
  try {
    const result = await work((text) => {
      remark = text;
    });
    finish(green("✓"));
    return result;
  } catch (fault) {
    finish(red("✗"));
    throw fault;
  }
}

/** A block of lines that is redrawn in place on a terminal, and written line by line as lines change elsewhere (empty ones not). */
export class LiveLines {
  #shown: string[] = [];

  show(lines: string[]): void {
    if (terminal) {
      const up = this.#shown.length > 0 ? `\x1b[${this.#shown.length}A` : "";
      process.stdout.write(`${up}${lines.map((line) => `\x1b[2K${line}\n`).join("")}`);
    } else {
      for (const [index, line] of lines.entries()) if (line !== "" && line !== this.#shown[index]) say(line);
    }
    this.#shown = lines;
  }

  /** The next block begins below what stands. */
  release(): void {
    this.#shown = [];
  }
}
