/** A real journal in a temporary folder. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Journal } from "../journal/journal.ts";
import { openJournal } from "../journal/open.ts";
import type { Plan } from "../round/plan.ts";
import { clipRemovals, clipsFor, clipWrites, forgetClips, keepClips } from "./clips.ts";

const TENSORS = [{ name: "a" }, { name: "b" }];

let folder: string;
let journal: Journal;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rondo-clips-"));
  journal = await openJournal(join(folder, "journal"));
});
afterEach(async () => {
  await journal.close();
  await rm(folder, { recursive: true, force: true });
});

function plan(clips: [string, string], clipNorm = "1.0"): Plan {
  const scales = clips.map((clip) => ({ clip, scale: "1" }));
  return { tensors: TENSORS, aggregation: { clipNorm }, secure: { scales } } as unknown as Plan;
}

async function publish(uid: string, of: Plan, result: { weight: number; energy: number[] }) {
  await journal.commit(keepClips(of, uid, result));
  await journal.commit(await clipWrites(journal, "notes", uid));
}

const clips = (clipNorm = "1.0") => clipsFor(journal, "notes", TENSORS, clipNorm);

test("before a secure round has published, every tensor has the clip norm as it was written", async () => {
  expect(await clips("0.50")).toEqual(["0.50", "0.50"]);
});

describe("after a secure round has published", () => {
  test("a tensor is clipped at six times the root mean square of its deltas", async () => {
    // Weight 510: mean squares of 1/10000 and 1/400 of the clip's.
    await publish("u1", plan(["1.0", "0.5"]), { weight: 510, energy: [0.051, 1.275] });
    expect(await clips()).toEqual(["0.06", "0.15"]);
  });

  test.each([
    { says: "a tensor that did not move", energy: 0 },
    { says: "one whose clip would pass the clip norm", energy: 510 },
  ])("$says has the clip norm", async ({ energy }) => {
    await publish("u1", plan(["1.0", "1.0"]), { weight: 510, energy: [energy, 0.051] });
    expect(await clips()).toEqual(["1.0", "0.06"]);
  });

  test("a clip norm that was lowered since holds", async () => {
    await publish("u1", plan(["1.0", "0.5"]), { weight: 510, energy: [0.051, 1.275] });
    expect(await clips("0.1")).toEqual(["0.06", "0.1"]);
  });

  test("a tensor that the federation did not have has the clip norm", async () => {
    await publish("u1", plan(["1.0", "0.5"]), { weight: 510, energy: [0.051, 1.275] });
    expect(await clipsFor(journal, "notes", [{ name: "a" }, { name: "new" }], "1.0")).toEqual(["0.06", "1.0"]);
    expect(await clipsFor(journal, "other", TENSORS, "1.0")).toEqual(["1.0", "1.0"]);
  });

  test("every clip is a decimal that a plan may hold, however small", async () => {
    await publish("u1", plan(["1.0", "1e-7"]), { weight: 255, energy: [1e-20, 1e-3] });
    for (const clip of await clips()) expect(clip).toMatch(/^(0|[1-9][0-9]*)(\.[0-9]+)?(e-?[0-9]+)?$/);
  });

  test("a federation that takes the name of one that is gone begins anew", async () => {
    await publish("u1", plan(["1.0", "0.5"]), { weight: 510, energy: [0.051, 1.275] });
    await forgetClips(journal, "notes");
    expect(await clips()).toEqual(["1.0", "1.0"]);
  });
});

test("a round that publishes nothing changes nothing, and leaves nothing behind", async () => {
  await journal.commit(keepClips(plan(["1.0", "0.5"]), "u1", { weight: 510, energy: [0.051, 1.275] }));
  expect(await clips()).toEqual(["1.0", "1.0"]);
  await journal.commit(clipRemovals("u1"));
  expect(await journal.entries("clips")).toEqual([]);
});

test("a trusted round has no clips to write", async () => {
  expect(await clipWrites(journal, "notes", "u1")).toEqual([]);
});
