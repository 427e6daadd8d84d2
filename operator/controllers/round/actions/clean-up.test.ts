import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Journal } from "../../../journal/journal.ts";
import { leafHash, merkleRoot } from "../../../journal/merkle.ts";
import { openJournal } from "../../../journal/open.ts";
import { openSpool } from "../../../journal/spool.ts";
import { enter } from "../../../round/record.ts";
import { T0 } from "../../../round/testing/worlds.ts";
import { RoundDesk } from "../desk.ts";
import { removeSpooled } from "./clean-up.ts";

let folder: string;
let journal: Journal;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rondo-clean-up-"));
  journal = await openJournal(join(folder, "journal.sqlite"));
});
afterEach(async () => {
  await journal.close();
  await rm(folder, { recursive: true, force: true });
});

test("bytes that an open round counts stay when a round that has ended was sent the same", async () => {
  const spool = await openSpool(join(folder, "spool"));
  const rooted = async (text: string) => {
    const bytes = Buffer.from(text);
    const leaves = [leafHash(bytes)];
    const upload = await spool.begin({ byteLength: bytes.length, leaves });
    await upload.append(0, bytes);
    await upload.finish();
    return Buffer.from(merkleRoot(leaves)).toString("hex");
  };
  const [counted, ended] = [await rooted("of both rounds"), await rooted("of the ended round")];
  const desk = new RoundDesk(journal, (error) => {
    throw error;
  });
  await desk.begin({ name: "fed-r2", uid: "u2", federation: "fed" }, T0);
  const contributions = [{ participant: "ann", root: counted, byteLength: 14, file: join(folder, "spool", counted) }];
  await desk.update("u2", (record) => ({ ...enter(record, "Aggregating", T0), contributions }));

  await removeSpooled({ spool }, { desk }, [counted, ended]);
  expect((await spool.list()).map(({ root }) => root)).toEqual([counted]);
  await desk.update("u2", (record) => enter(record, "Failed", T0));
  await removeSpooled({ spool }, { desk }, [counted, ended]);
  expect(await spool.list()).toEqual([]);
});
