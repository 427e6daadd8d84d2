import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";

const here = fileURLToPath(new URL(".", import.meta.url));
const tools = fileURLToPath(new URL("../../node_modules/.bin", import.meta.url));

test("the generated code is what rondo.v1.proto gives", async () => {
  const folder = await mkdtemp(join(tmpdir(), "buf-"));
  try {
    const env = { ...process.env, PATH: `${tools}${delimiter}${process.env.PATH}` };
    await promisify(execFile)(join(tools, "buf"), ["generate", "--output", folder], { cwd: here, env });
    const generated = await readFile(join(folder, "generated", "rondo.v1.ts"), "utf8");
    expect(generated === (await readFile(join(here, "generated", "rondo.v1.ts"), "utf8")), "run make generate").toBe(
      true,
    );
  } finally {
    await rm(folder, { recursive: true });
  }
}, 30_000);
