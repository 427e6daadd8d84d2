import { expect, test } from "vitest";
import { meanLoss, SummedLosses } from "./losses.ts";

const saying = (tokens: string, lossTokens: string) =>
  new Map([
    ["weight", "255"],
    ["tokens", tokens],
    ["lossTokens", lossTokens],
  ]);

function mean(...contributions: Array<Map<string, string>>) {
  const losses = new SummedLosses();
  for (const metadata of contributions) losses.add(metadata);
  return losses.mean();
}

test("whoever trained on more tokens weighs more", () =>
  expect(mean(saying("100", "200"), saying("300", "300"), saying("100", "100.5"))).toEqual({
    trainLoss: 600.5 / 500,
    tokens: 500,
  }));

test("two contributors could tell each other's: nothing is said of them", () =>
  expect(mean(saying("100", "200"), saying("300", "300"))).toBeUndefined());

test.each([
  { says: "no losses", metadata: new Map([["weight", "1"]]) },
  { says: "no tokens at all", metadata: saying("0", "1") },
  { says: "half a token", metadata: saying("1.5", "1") },
  { says: "a negative loss", metadata: saying("1", "-1") },
  { says: "no number", metadata: saying("1", "NaN") },
])("a contribution that says $says is left out of the mean", ({ metadata }) => {
  const three = [saying("1", "2"), saying("1", "2"), saying("1", "2")];
  expect(mean(...three, metadata)).toEqual({ trainLoss: 2, tokens: 3 });
});

test("a sum without tokens has no mean", () =>
  expect(meanLoss({ contributors: 5, tokens: 0, lossTokens: 0 })).toBeUndefined());
