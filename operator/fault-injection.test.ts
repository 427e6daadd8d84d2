/** No lasting effect goes unnamed: whatever writes to a disk, a stream, the API server or a registry says so (fault-injection.ts), close by. */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const root = dirname(fileURLToPath(import.meta.url));

/** What changes something that outlives the process. */
const MUTATING: ReadonlyArray<{ what: string; pattern: RegExp }> = [
  {
    what: "a file",
    pattern:
      /(?<![.\w#])(appendFile|chmod|copyFile|link|mkdir|mkdtemp|rename|rm|rmdir|symlink|truncate|unlink|utimes|writeFile)(Sync)?\(/,
  },
  {
    what: "a file",
    pattern: /\.(datasync|sync|truncate)\(|\bf(data)?syncSync\(|createWriteStream\(|\bsync(Folder|Directory)\(/,
  },
  { what: "a stream", pattern: /\b(call|stream)\.write\(/ },
  { what: "the API server", pattern: /#connection\.open\(/ },
  { what: "a registry", pattern: /await this\.#request\(call, scope\)/ },
  { what: "a journal", pattern: /#ask\(\{ do: "(commit|increment)"/ },
];
/** The effect is named after it, or the call hands on who names it. */
const NAMED = /\beffect\(|\bhasLeft\(/;
/** A call may span some lines, and others may stand between it and its name. */
const CLOSE_BY = 12;

/** Whole files, each with the reason. */
const EXEMPT: Record<string, string> = {
  "agent/local.ts": "the admin socket is made anew at each start",
  "api/generate/main.ts": "a build tool",
  "controllers/round/secure-sum-accumulator.ts": "a scratch file without a name",
  "journal/store.ts": "SQLite's own thread; open.ts names each commit that it has answered",
};

const sources = readdirSync(root, { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".ts") && !file.endsWith(".test.ts") && !/(^|\/)testing\//.test(file))
  .map((file) => ({ file, lines: readFileSync(join(root, file), "utf8").split("\n") }));

const isComment = (line: string) => /^\s*(\*|\/\/|\/\*)/.test(line);
/** Of a helper, whose every call is looked at instead. */
const isInHelper = (lines: string[], at: number) =>
  lines.slice(Math.max(0, at - 4), at + 1).some((line) => /function sync(Folder|Directory)\(/.test(line));

const unnamed = ({ file, lines }: { file: string; lines: string[] }) =>
  lines.flatMap((line, at) => {
    const found =
      isComment(line) || isInHelper(lines, at) ? undefined : MUTATING.find(({ pattern }) => pattern.test(line));
    const isNamed = lines.slice(at, at + CLOSE_BY).some((next) => NAMED.test(next));
    return found && !isNamed ? [`${file}:${at + 1} changes ${found.what}: ${line.trim()}`] : [];
  });

test("what outlives the process is named close by its call", () => {
  expect(sources.filter(({ file }) => !(file in EXEMPT)).flatMap(unnamed)).toEqual([]);
});

test("every pattern finds something, so that none has been outrun by a new way of writing", () => {
  const all = sources.flatMap(({ lines }) => lines.filter((line) => !isComment(line)));
  expect(MUTATING.filter(({ pattern }) => !all.some((line) => pattern.test(line)))).toEqual([]);
});

test("an exemption is of a file that is there and writes", () => {
  const writing = new Set(
    sources
      .filter((source) => source.lines.some((line) => MUTATING.some(({ pattern }) => pattern.test(line))))
      .map(({ file }) => file),
  );
  expect(Object.keys(EXEMPT).filter((file) => !writing.has(file))).toEqual([]);
});
