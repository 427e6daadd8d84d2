import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { z } from "zod";
import { API_VERSION } from "../resource.ts";
import { customResourceDefinition } from "./crd.ts";
import { GENERATED_FOLDERS, generatedFiles } from "./files.ts";

const root = join(dirname(fileURLToPath(import.meta.url)), "../../..");
const files = generatedFiles();

test.each([...files])("%s is as the schemas say; run `make generate` when this fails", (path, text) => {
  expect(readFileSync(join(root, path), "utf8")).toBe(text);
});

test.each(GENERATED_FOLDERS)("%s holds nothing else", (folder) => {
  const expected = [...files.keys()].filter((path) => dirname(path) === folder);
  expect(readdirSync(join(root, folder)).map((name) => `${folder}/${name}`)).toEqual(expected.sort());
});

test("the chart's copies stay when the chart goes", () => {
  for (const [path, text] of files) {
    if (!path.startsWith("charts/")) continue;
    const yaml = text
      .split("\n")
      .filter((line) => !line.startsWith("{{"))
      .join("\n");
    expect(parse(yaml).metadata.annotations, path).toEqual({ "helm.sh/resource-policy": "keep" });
  }
});

describe("what a CRD cannot say is refused when it is generated", () => {
  const generate = (spec: z.ZodType) =>
    customResourceDefinition({
      kind: "Thing",
      plural: "things",
      singular: "thing",
      shortNames: [],
      description: `A thing of ${API_VERSION}`,
      schema: z.object({ spec, status: z.object({}) }),
      columns: [],
      rules: [],
    });

  test.each([
    { says: "a string without a limit", spec: z.object({ a: z.string() }), error: "spec.a: has no maxLength" },
    { says: "a list without a limit", spec: z.object({ a: z.array(z.int()) }), error: "spec.a: has no maxItems" },
    {
      says: "a map without a limit",
      spec: z.object({ a: z.record(z.string(), z.int()) }),
      error: "spec.a: has no maxProperties",
    },
    { says: "a union", spec: z.object({ a: z.union([z.int(), z.boolean()]) }), error: 'spec.a: a CRD has no "anyOf"' },
  ])("$says", ({ spec, error }) => {
    expect(() => generate(spec)).toThrow(error);
  });
});
