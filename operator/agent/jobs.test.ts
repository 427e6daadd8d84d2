import { expect, test } from "vitest";
import { lastLineFirst } from "./jobs.ts";

test("a site's event begins with the trainer's last line, which says why it ended", () => {
  expect(lastLineFirst("train for r1\nstep 1\nnotes.jsonl line 7: no completion\n")).toBe(
    "notes.jsonl line 7: no completion\ntrain for r1\nstep 1",
  );
  expect(lastLineFirst("")).toBe("");
});
