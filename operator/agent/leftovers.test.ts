import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { removeLeftovers } from "./leftovers.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rondo-leftovers-"));
});
afterEach(() => rm(folder, { recursive: true }));

async function have(...files: string[]): Promise<void> {
  for (const file of files) {
    await mkdir(join(folder, file, ".."), { recursive: true });
    await writeFile(join(folder, file), "x");
  }
}

test("folders of nobody go, and in the others the beginnings of files", async () => {
  const living = ["r2-a-1/parent.safetensors", "r2-a-1/trained.safetensors", "r2-a-1/masked.bin"];
  const begun = ["r2-a-1/trained.safetensors.part", "r2-a-1/delta.safetensors.partial", "r2-a-1/masked.bin.part"];
  const strange = ["notes-eval-11-22/candidate.safetensors.partial", "r1-a-1/delta.safetensors"];
  await have(...living, ...begun, ...strange);
  const removed = await removeLeftovers(folder, new Set(["r2-a-1", "r3-a-1"]));
  expect(removed.sort()).toEqual([...begun, "notes-eval-11-22", "r1-a-1"].sort());
  expect((await readdir(folder, { recursive: true })).sort()).toEqual(["r2-a-1", ...living].sort());
});

test("a download that was under way goes on where it was", async () => {
  await have("r2-a-1/parent.safetensors.partial");
  expect(await removeLeftovers(folder, new Set(["r2-a-1"]))).toEqual([]);
});
