import { describe, expect, test } from "vitest";
import { sampleProblem, spareOf, wanted } from "./sample.ts";

describe("how many a round wants", () => {
  test.each([
    { says: "everybody without a sample", sample: undefined, of: 7, count: 7 },
    { says: "a count", sample: { count: 4 }, of: 7, count: 4 },
    { says: "all where there are fewer than the count", sample: { count: 9 }, of: 7, count: 7 },
    { says: "a share, rounded up", sample: { fraction: "0.5" }, of: 7, count: 4 },
    { says: "a share that is whole in decimals and not in binary", sample: { fraction: "0.07" }, of: 100, count: 7 },
    { says: "at least one of a small share", sample: { fraction: "1e-12" }, of: 7, count: 1 },
    { says: "all of a whole", sample: { fraction: "1" }, of: 7, count: 7 },
    { says: "nobody of nobody", sample: { fraction: "0.5" }, of: 0, count: 0 },
  ])("is $says", ({ sample, of, count }) => expect(wanted(sample, of)).toBe(count));
});

test("a secure session may miss n - t of its n members", () => {
  expect([3, 4, 5, 6, 7, 9, 10, 64].map(spareOf)).toEqual([0, 1, 1, 1, 2, 2, 3, 21]);
});

describe("settings that no round can follow", () => {
  test.each([
    { says: "a quorum above the sample", minimum: 5, sample: { count: 4 }, privacy: "trusted" },
    { says: "too many to spare in a secure sum", minimum: 3, sample: { count: 4, overselect: 2 }, privacy: "secure" },
  ] as const)("$says", ({ minimum, sample, privacy }) => {
    expect(sampleProblem({ minimum, sample }, privacy)).toMatch(/^(participants\.minimum|with aggregation\.privacy)/);
  });

  test.each([
    { says: "no sample", minimum: 5, sample: undefined, privacy: "secure" },
    {
      says: "the same with the operator seeing each",
      minimum: 3,
      sample: { count: 4, overselect: 9 },
      privacy: "trusted",
    },
    {
      says: "as many to spare as a sum can do without",
      minimum: 3,
      sample: { count: 4, overselect: 1 },
      privacy: "secure",
    },
    {
      says: "a share, as long as nobody knows of how many",
      minimum: 9,
      sample: { fraction: "0.1" },
      privacy: "secure",
    },
  ] as const)("$says is fine", ({ minimum, sample, privacy }) => {
    expect(sampleProblem({ minimum, sample }, privacy)).toBeUndefined();
  });

  test("a share is judged once it is a number", () => {
    expect(sampleProblem({ minimum: 4, sample: { fraction: "0.5" } }, "trusted", 3)).toContain("participants.minimum");
  });
});
