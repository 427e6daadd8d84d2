/** The import rule of docs/architecture.md: folders point one way, and pure folders touch neither the world nor the clock. */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const root = dirname(fileURLToPath(import.meta.url));

/** Where decisions meet the world: everything but each other and the command line. */
const everyHand = [
  "aggregation",
  "api",
  "fault-injection.ts",
  "journal",
  "kube",
  "publish",
  "round",
  "secagg",
  "telemetry",
  "threads.ts",
  "trainer",
  "transport",
];

/** folder → the folders of operator/ that it may import (itself always). */
const mayImport: Record<string, readonly string[]> = {
  api: [],
  round: ["api"],
  aggregation: [],
  secagg: ["aggregation", "round"],
  telemetry: [],
  kube: ["api", "fault-injection.ts", "telemetry"],
  journal: ["fault-injection.ts", "telemetry", "threads.ts"],
  transport: ["fault-injection.ts", "journal", "round", "telemetry", "threads.ts"],
  publish: ["aggregation", "fault-injection.ts", "telemetry"],
  trainer: ["api", "fault-injection.ts", "kube", "publish", "telemetry"],
  agent: everyHand,
  controllers: everyHand,
  cli: ["agent", "api", "controllers", "kube", "telemetry", "transport"],
  "main.ts": ["agent", "cli", "controllers", "telemetry"],
  "threads.ts": [],
  "fault-injection.ts": [],
};
const pure = ["api", "round", "aggregation", "secagg"];
const pureMayUse = ["zod"];
/** What pure folders may have of node:crypto: the same arguments give the same result. Keys, nonces, shares and seeds are drawn by their callers. */
const deterministicCrypto: Record<string, readonly string[]> = {
  // Samples are drawn from a seed that the plan shows.
  round: ["createHmac"],
  secagg: [
    "createCipheriv",
    "createDecipheriv",
    "createHash",
    "createHmac",
    "createPrivateKey",
    "createPublicKey",
    "diffieHellman",
    "hkdfSync",
    "timingSafeEqual",
    "verify",
  ],
};
const impureNames = /\b(Date\.now|new Date\(\)|Math\.random|process\.|crypto\.|setTimeout|setInterval|fetch\()/;

const sources = readdirSync(root, { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".ts") && !file.endsWith(".test.ts") && !/(^|\/)(testing|generate)\//.test(file))
  .map((file) => ({ file, folder: file.split(sep)[0]!, text: readFileSync(join(root, file), "utf8") }));

const importsOf = (text: string) =>
  [...text.matchAll(/(?<!\.)\b(?:from|import)\s*\(?\s*"([^"]+)"/g)].map((match) => match[1]!);

/** Values only: a type does nothing. `import crypto from` or `import * as` gives the whole clause, which no list allows. */
const cryptoNamesOf = (text: string) =>
  [...text.matchAll(/^(?:import|export) (?!type\b)([^"]*?) from "node:crypto"/gm)].flatMap((match) => {
    const clause = match[1]!;
    if (!/^\{[^}]*\}$/.test(clause)) return [clause];
    return clause
      .slice(1, -1)
      .split(",")
      .map((name) => name.trim())
      .filter((name) => name !== "" && !name.startsWith("type "));
  });

test("every folder of operator/ has an import rule", () => {
  expect(sources.map(({ folder }) => folder).filter((folder) => !(folder in mayImport))).toEqual([]);
});

test("folders import only what their rule allows", () => {
  const broken = sources.flatMap(({ file, folder, text }) =>
    importsOf(text)
      .filter((target) => target.startsWith("."))
      .map((target) => relative(root, join(root, dirname(file), target)).split(sep)[0]!)
      .filter((target) => target !== folder && !mayImport[folder]?.includes(target))
      .map((target) => `${file} imports ${target}`),
  );
  expect(broken).toEqual([]);
});

test("pure folders import no package but zod and nothing of Node, but for node:crypto in secagg and round", () => {
  const broken = sources
    .filter(({ folder }) => pure.includes(folder))
    .flatMap(({ file, folder, text }) =>
      importsOf(text)
        .filter((target) => !target.startsWith(".") && !pureMayUse.includes(target))
        .filter((target) => !(folder in deterministicCrypto && target === "node:crypto"))
        .map((target) => `${file} imports ${target}`),
    );
  expect(broken).toEqual([]);
});

test("secagg and round have of node:crypto only what draws nothing", () => {
  const broken = sources
    .filter(({ folder }) => folder in deterministicCrypto)
    .flatMap(({ file, folder, text }) =>
      cryptoNamesOf(text)
        .filter((name) => !deterministicCrypto[folder]!.includes(name))
        .map((name) => `${file} imports ${name}`),
    );
  expect(broken).toEqual([]);
});

test("pure folders use no clock, randomness, timer or network", () => {
  const broken = sources
    .filter(({ folder }) => pure.includes(folder))
    .flatMap(({ file, text }) =>
      text
        .split("\n")
        .map((line, index) => ({ line, at: `${file}:${index + 1}` }))
        .filter(({ line }) => !/^\s*(\*|\/\/|\/\*)/.test(line) && impureNames.test(line))
        .map(({ line, at }) => `${at} ${line.trim()}`),
    );
  expect(broken).toEqual([]);
});
