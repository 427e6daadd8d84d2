import { expect, test } from "vitest";
import { matchesAny } from "./patterns.ts";

test.each([
  ["*", "anything", true],
  ["registry.example/trainer:9", "registry.example/trainer:9", true],
  ["registry.example/trainer", "registry.example/trainer:9", false],
  ["registry.example/*", "registry.example/a/b@sha256:1", true],
  ["registry.example/*", "registry.example.evil/a", false],
  ["*/trainer@sha256:*", "a/trainer@sha256:1", true],
  ["a*b*c", "abc", true],
  ["a*b*c", "acb", false],
  ["a*a", "a", false],
  ["a.c", "abc", false],
])("pattern %s on %s: %s", (pattern, text, is) => expect(matchesAny([pattern], text)).toBe(is));
