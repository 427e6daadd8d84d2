import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { fileCredentialStore } from "./credential.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "credential-"));
});
afterEach(() => rm(folder, { recursive: true }));

const credential = { certificatePem: "c", privateKeyPem: "k", renewAtMs: 1, expiresAtMs: 2 };

test("a credential is kept in a file that its owner alone reads, and replaced as a whole", async () => {
  const path = join(folder, "tls.json");
  const store = fileCredentialStore(path);
  expect(await store.load()).toBeUndefined();
  await store.save({ ...credential, certificatePem: "older and longer" });
  await store.save(credential);
  expect(await store.load()).toEqual(credential);
  expect((await stat(path)).mode & 0o777).toBe(0o600);
});

test("a damaged file is none", async () => {
  const path = join(folder, "tls.json");
  await writeFile(path, "{");
  expect(await fileCredentialStore(path).load()).toBeUndefined();
});
