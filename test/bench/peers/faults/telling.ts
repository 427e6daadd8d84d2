/** The lines of a log that would tell a person what went wrong: the last few warnings and errors, each once. */
import { readFile } from "node:fs/promises";

const TELLING = /WARN|ERROR|Traceback|Error:|Exception|failed|abort|lost|dead|timed? ?out/i;
const LINES = 8;

export async function telling(file: string): Promise<string[]> {
  const text = await readFile(file, "utf8").catch(() => "");
  const lines = text
    // biome-ignore lint/suspicious/noControlCharactersInRegex: logs are coloured.
    .replaceAll(/\x1b\[[0-9;]*m/g, "")
    .split("\n")
    .filter((line) => TELLING.test(line) && !/\bINFO\b/.test(line))
    .map((line) => line.trim().slice(0, 240));
  return [...new Set(lines)].slice(-LINES);
}
