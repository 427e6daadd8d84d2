import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Journal } from "../../../operator/journal/journal.ts";
import { openJournal } from "../../../operator/journal/open.ts";
import { type SmallDisk, smallDisk } from "../small-disk.ts";

let disk: SmallDisk;
const open: Journal[] = [];
beforeEach(async () => {
  disk = await smallDisk(2);
});
afterEach(async () => {
  for (const journal of open.splice(0)) await journal.close().catch(() => {});
  await disk.unmount();
});

async function waitingJournal(): Promise<{ journal: Journal; said: boolean[] }> {
  const said: boolean[] = [];
  const journal = await openJournal(join(disk.folder, "journal.sqlite"), { onFull: (isFull) => said.push(isFull) });
  open.push(journal);
  return { journal, said };
}

const big = (key: string) => ({ put: { space: "s", key, value: new Uint8Array(200_000).fill(7) } });
const small = (key: string) => ({ put: { space: "s", key, value: Buffer.from("x") } });
const still = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms, "still waiting"));

test("what finds the disk full waits for room, and nothing overtakes it", async () => {
  const { journal, said } = await waitingJournal();
  await disk.fill(50_000);
  const order: string[] = [];
  const first = journal.commit([big("a")]).then(() => order.push("big"));
  const second = journal.commit([small("a")]).then(() => order.push("small"));
  const counted = journal.increment("n");
  expect(await Promise.race([first, second, counted, still(1200)])).toBe("still waiting");
  expect(said).toEqual([true]);
  await disk.empty();
  await Promise.all([first, second]);
  expect(order).toEqual(["big", "small"]);
  expect(said).toEqual([true, false]);
  expect(await counted).toBe(1);
  expect(Buffer.from((await journal.get("s", "a"))!).toString()).toBe("x");
});

test("a removal whose erasing finds no room is answered when it is erased, and an insert of the same commit is made once", async () => {
  const { journal } = await waitingJournal();
  await journal.commit([big("a"), small("b")]);
  await disk.fill(0);
  const commit = journal.commit([
    { remove: { space: "s", key: "b" } },
    { insert: { space: "s", key: "c", value: new Uint8Array(1) } },
  ]);
  await Promise.race([commit, still(1200)]);
  await disk.empty();
  await commit;
  expect((await journal.entries("s")).map(({ key }) => key)).toEqual(["a", "c"]);
});

test("a journal that waits for room can be closed, and says of what it did not write that it did not", async () => {
  const { journal } = await waitingJournal();
  await journal.commit([small("kept")]);
  await disk.fill(20_000);
  const commit = journal.commit([big("lost")]);
  const failed = expect(commit).rejects.toMatchObject({ code: "DiskFull" });
  expect(await Promise.race([commit.catch(() => "failed"), still(700)])).toBe("still waiting");
  await journal.close();
  await failed;
  await disk.empty();
  const { journal: later } = await waitingJournal();
  expect((await later.entries("s")).map(({ key }) => key)).toEqual(["kept"]);
});

test("a journal that finds no room to open waits for it", async () => {
  const { journal } = await waitingJournal();
  await journal.commit([small("kept")]);
  await journal.close();
  await disk.fill(0);
  const opened = waitingJournal();
  await Promise.race([opened, still(1200)]);
  await disk.empty();
  const { journal: later } = await opened;
  expect((await later.entries("s")).map(({ key }) => key)).toEqual(["kept"]);
});
