/** What the documents and examples tell people to create is accepted by the API server as it stands there, and diagrams are drawn. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { sharedApiServer } from "../shared-api-server.ts";
import { kubectl, type Printed } from "./kubectl.ts";

const root = join(import.meta.dirname, "../../..");
let create: (manifest: unknown) => Promise<Printed>;

beforeAll(async () => {
  const server = await sharedApiServer();
  const namespace = await server.createNamespace("documents");
  create = (manifest) =>
    kubectl(server.kubeconfig, ["-n", namespace, "create", "--dry-run=server", "-f", "-"], manifest);
});

const examples = readdirSync(join(root, "examples"), { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".yaml"))
  .map((file) => ({ file: `examples/${file}`, text: readFileSync(join(root, "examples", file), "utf8") }));

/** A digest that is cut short for the reader is written out for the API server. */
const blocks = readdirSync(join(root, "docs"))
  .filter((file) => file.endsWith(".md"))
  .flatMap((file) =>
    [
      ...readFileSync(join(root, "docs", file), "utf8").matchAll(/^```yaml\n(apiVersion: rondo\.dev[\s\S]*?)^```$/gm),
    ].map((match) => ({ file: `docs/${file}`, text: match[1]!.replaceAll("sha256:…", `sha256:${"0".repeat(64)}`) })),
  );

type Manifest = { apiVersion?: string; kind: string; metadata: { name?: string; generateName?: string } };

/** Values files of charts lie among the examples as well; rendering.test.ts looks at those. */
const manifests = [...examples, ...blocks].flatMap(({ file, text }) =>
  parseAllDocuments(text)
    .map((document) => document.toJS() as Manifest | null)
    .filter((manifest) => manifest?.apiVersion?.startsWith("rondo.dev/"))
    .map((manifest) => ({
      file,
      what: `${manifest!.kind} ${manifest!.metadata.name ?? "of a generated name"}`,
      manifest,
    })),
);

test.each(manifests)("$file: $what", async ({ manifest }) => {
  expect(await create(manifest)).toMatchObject({ ok: true, stderr: "" });
});

test("there are examples and documents to look at", () => {
  expect(examples.length).toBeGreaterThan(0);
  expect(blocks.length).toBeGreaterThan(2);
});

test("no diagram has a semicolon: it would end the statement, and the page would show an error in its place", () => {
  const pages = ["README.md", ...readdirSync(join(root, "docs")).map((file) => `docs/${file}`)].filter((file) =>
    file.endsWith(".md"),
  );
  const diagrams = pages.flatMap((file) =>
    [...readFileSync(join(root, file), "utf8").matchAll(/^```mermaid\n([\s\S]*?)^```$/gm)].map((match) => match[1]!),
  );
  expect(diagrams.length).toBeGreaterThan(1);
  expect(diagrams.flatMap((text) => text.split("\n")).filter((line) => line.includes(";"))).toEqual([]);
});
