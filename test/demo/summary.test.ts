import { expect, test } from "vitest";
import { learnt } from "./summary.ts";

test("of each round that succeeded the operator learnt one sum, of the sites that contributed", () => {
  const lines = learnt([
    { name: "dictionaries-r1", phase: "Succeeded", contributions: "4/4" },
    { name: "dictionaries-r2", phase: "Succeeded", contributions: "3/4" },
  ]);
  expect(lines[0]).toMatch(/^dictionaries-r1 +one sum of 4 masked deltas/);
  expect(lines[1]).toMatch(/^dictionaries-r2 +one sum of 3 masked deltas/);
  expect(lines[2]).toMatch(/^of each site +that it took part, when, and how many bytes; not its delta/);
});

test("of a round that failed it may have learnt the sum before the registry refused", () => {
  const [line] = learnt([{ name: "dictionaries-r1", phase: "Failed", contributions: "2/4" }]);
  expect(line).toBe("dictionaries-r1         at most one sum: the round published nothing");
});
