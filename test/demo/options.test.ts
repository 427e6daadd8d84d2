import { expect, test } from "vitest";
import { demoOptions, minCohortOf } from "./options.ts";
import { SITES } from "./sites.ts";

const nowMs = 1_000_000;
const asked = (...args: string[]) => demoOptions(["up", ...args], nowMs);

test("without a wish: all four sites, two rounds of the language model", () => {
  expect(asked()).toEqual({ command: "up", rounds: 2, sites: SITES, model: "smollm2", steps: 6, startedMs: nowMs });
});

test("the clock starts when make did", () => {
  expect(asked("--started", "990").startedMs).toBe(990_000);
});

test("the small model takes more steps, unless somebody says how many", () => {
  expect(asked("--model", "tiny").steps).toBe(20);
  expect(asked("--model", "tiny", "--steps", "3").steps).toBe(3);
});

test.each([
  { participants: 3, smallest: 3 },
  { participants: 4, smallest: 4 },
])("$participants sites ask for a cohort of $smallest: all of them", ({ participants, smallest }) => {
  expect(minCohortOf(asked("--participants", String(participants)).sites)).toBe(smallest);
});

test("no site of a larger demo would ask for more than agents do by themselves, and none for fewer than three", () => {
  expect(minCohortOf([...SITES, ...SITES])).toBe(5);
  expect(minCohortOf(SITES.slice(0, 1))).toBe(3);
});

test.each([
  ["--participants", "2", "PARTICIPANTS=2 is too few for secure aggregation: in a sum of two each subtracts itself"],
  ["--participants", "1", "PARTICIPANTS=1 is too few for secure aggregation"],
  ["--participants", "5", "PARTICIPANTS=5 is out of range: it is a whole number from 3 to 4."],
  ["--participants", "0", "PARTICIPANTS=0 is out of range: it is a whole number from 3 to 4."],
  ["--rounds", "0", "ROUNDS=0 is out of range: it is a whole number from 1 to 1000."],
  ["--rounds", "two", "ROUNDS=two is out of range"],
  ["--model", "gpt", "MODEL=gpt is unknown: use smollm2 or tiny."],
  ["--steps", "1.5", "STEPS=1.5 is out of range"],
])("%s %s is refused in a sentence", (option, value, sentence) => {
  expect(() => asked(option, value)).toThrow(sentence);
});
