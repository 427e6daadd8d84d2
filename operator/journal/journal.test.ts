import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFile, mkdtemp, open, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Journal } from "./journal.ts";
import { openJournal } from "./open.ts";

let folder: string;
let path: string;
const opened: Journal[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "journal-"));
  path = join(folder, "journal.db");
});
afterEach(async () => {
  await Promise.all(opened.splice(0).map((journal) => journal.close()));
  await rm(folder, { recursive: true });
});

async function journalAt(file = path): Promise<Journal> {
  const journal = await openJournal(file);
  opened.push(journal);
  return journal;
}

const bytes = (text: string) => Buffer.from(text);
const put = (space: string, key: string, value: string) => ({ put: { space, key, value: bytes(value) } });
const insert = (space: string, key: string, value: string) => ({ insert: { space, key, value: bytes(value) } });
const text = (value: Uint8Array | undefined) => value && Buffer.from(value).toString();

test("what was committed is there after a close and a new opening", async () => {
  const first = await journalAt();
  await first.commit([put("rounds", "a", "1"), put("rounds", "b", "2"), put("other", "a", "3")]);
  await first.close();

  const second = await journalAt();
  expect(text(await second.get("rounds", "a"))).toBe("1");
  expect(text(await second.get("other", "a"))).toBe("3");
  expect(await second.get("rounds", "c")).toBeUndefined();
});

test("entries come ascending by key and a prefix narrows them", async () => {
  const journal = await journalAt();
  await journal.commit([
    put("s", "b/2", "2"),
    put("s", "a", "0"),
    put("s", "b/1", "1"),
    put("s", "c", "3"),
    put("t", "b/9", "9"),
  ]);
  expect((await journal.entries("s")).map((entry) => entry.key)).toEqual(["a", "b/1", "b/2", "c"]);
  expect((await journal.entries("s", "b/")).map((entry) => text(entry.value))).toEqual(["1", "2"]);
});

test("an insert of a key that is there fails the whole commit and nothing else", async () => {
  const journal = await journalAt();
  await journal.commit([insert("s", "k", "first")]);
  // In one batch: the neighbours must not suffer.
  const before = journal.commit([put("s", "before", "x")]);
  const refused = journal.commit([put("s", "lost", "x"), insert("s", "k", "second"), put("s", "lost2", "x")]);
  const after = journal.commit([put("s", "after", "x")]);

  await expect(refused).rejects.toMatchObject({ code: "Exists", message: "The journal already holds s/k" });
  await Promise.all([before, after]);
  expect(text(await journal.get("s", "k"))).toBe("first");
  expect((await journal.entries("s")).map((entry) => entry.key)).toEqual(["after", "before", "k"]);
});

test("a counter gives every number once, across openings and among callers at the same time", async () => {
  const first = await journalAt();
  expect(await Promise.all([1, 2, 3].map(() => first.increment("round")))).toEqual([1, 2, 3]);
  expect(await first.increment("other")).toBe(1);
  await first.close();
  expect(await (await journalAt()).increment("round")).toBe(4);
});

test("a number that is kept for somebody is theirs for good, and higher than what is known of others", async () => {
  const first = await journalAt();
  const keep = { space: "numbers", key: "ann" };
  expect(await Promise.all([1, 2].map(() => first.increment("round", { above: 7, keep })))).toEqual([8, 8]);
  await first.close();
  const second = await journalAt();
  expect(await second.increment("round", { above: 20, keep })).toBe(8);
  expect(await second.increment("round", { above: 3 })).toBe(9);
  expect(text(await second.get("numbers", "ann"))).toBe("8");
});

test("a commit outlives a process that is killed right after it", async () => {
  const program = `
    import { openJournal } from ${JSON.stringify(new URL("./open.ts", import.meta.url).pathname)};
    const journal = await openJournal(${JSON.stringify(path)});
    for (let n = 0; ; n += 1) {
      await journal.commit([{ put: { space: "s", key: "n", value: Buffer.from(String(n)) } }]);
      console.log(n);
    }`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let said = "";
  while (!/\n20\n/.test(said)) said += String((await once(child.stdout, "data"))[0]);
  child.stdout.on("data", (more) => {
    said += String(more);
  });
  child.kill("SIGKILL");
  await once(child, "close");

  const last = Number(said.trim().split("\n").at(-1));
  expect(Number(text(await (await journalAt()).get("s", "n")))).toBeGreaterThanOrEqual(last);
}, 30_000);

test("its files are readable by their owner alone", async () => {
  const journal = await journalAt();
  await journal.commit([put("s", "k", "v")]);
  for (const name of await readdir(folder)) {
    expect((await stat(join(folder, name))).mode & 0o777, name).toBe(0o600);
  }
});

test("every removal of a commit is done", async () => {
  const journal = await journalAt();
  const keys = ["a", "b", "c"];
  await journal.commit(keys.map((key) => put("s", key, key)));
  await journal.commit(keys.map((key) => ({ remove: { space: "s", key } })));
  expect(await journal.entries("s")).toEqual([]);
});

test("a removed value is in none of its files", async () => {
  const journal = await journalAt();
  const secret = "a-round-key-that-must-be-forgotten".repeat(40);
  await journal.commit([put("s", "k", secret)]);
  await journal.commit([{ remove: { space: "s", key: "k" } }]);
  for (const name of await readdir(folder)) {
    expect((await readFile(join(folder, name))).includes("must-be-forgotten"), name).toBe(false);
  }
});

test("what was removed just before the process was killed is in none of its files after the next start", async () => {
  await (await journalAt()).close();
  const killed = new DatabaseSync(path);
  for (const pragma of ["journal_mode=WAL", "secure_delete=ON", "wal_autocheckpoint=0"])
    killed.exec(`PRAGMA ${pragma}`);
  const secret = "a-round-key-that-must-be-forgotten".repeat(40);
  killed.prepare("INSERT INTO entry VALUES (?, ?, ?)").run("s", "k", Buffer.from(secret));
  killed.exec("DELETE FROM entry");
  const left = await mkdtemp(join(tmpdir(), "rondo-journal-"));
  for (const end of ["", "-wal"]) await copyFile(`${path}${end}`, join(left, `j.db${end}`));
  killed.close();
  expect((await readFile(join(left, "j.db-wal"))).includes("must-be-forgotten")).toBe(true);
  const journal = await openJournal(join(left, "j.db"));
  for (const name of await readdir(left)) {
    expect((await readFile(join(left, name))).includes("must-be-forgotten"), name).toBe(false);
  }
  await journal.close();
  await rm(left, { recursive: true });
});

test("a damaged file is refused with a sentence that names it", async () => {
  const journal = await journalAt();
  await journal.commit([put("s", "k", "v".repeat(50_000))]);
  await journal.close();
  const file = await open(path, "r+");
  await file.write(Buffer.alloc(4096, 0xa5), 0, 4096, 4096);
  await file.close();
  await expect(openJournal(path)).rejects.toMatchObject({ code: "Corrupt", message: expect.stringContaining(path) });
});

test("a file that is no journal is refused", async () => {
  await writeFile(path, "This is a text, and long enough not to be taken for an empty database.".repeat(20));
  await expect(openJournal(path)).rejects.toMatchObject({ code: "Corrupt" });
});

test("a second opening while the first lives is refused", async () => {
  await journalAt();
  await expect(openJournal(path)).rejects.toMatchObject({
    code: "Failed",
    message: `The journal ${path} is in use by another process`,
  });
});

test("a folder that does not exist is a fault and not a hang", async () => {
  await expect(openJournal(join(folder, "nowhere", "journal.db"))).rejects.toMatchObject({ code: "Failed" });
});

test("a closed journal refuses; closing twice is closing once", async () => {
  const journal = await journalAt();
  const last = journal.commit([put("s", "k", "v")]);
  await Promise.all([journal.close(), journal.close()]);
  await last;
  await expect(journal.get("s", "k")).rejects.toMatchObject({ code: "Closed" });
});
