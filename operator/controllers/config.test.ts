import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { stringify } from "yaml";
import { readOperatorConfig } from "./config.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rondo-config-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const least = {
  namespace: "rondo",
  trustDomain: "example.org",
  agents: { endpoint: "10.0.0.1:8443" },
  enrolment: { endpoint: "10.0.0.1:8444" },
  tasks: { service: "rondo-tasks" },
};

async function read(config: object) {
  const file = join(folder, "operator.yaml");
  await writeFile(file, stringify(config));
  return readOperatorConfig(file);
}

test("what is left out has defaults", async () => {
  expect(await read(least)).toMatchObject({
    dataDir: "/var/lib/rondo",
    agents: { address: "0.0.0.0:8443" },
    metrics: { address: "0.0.0.0:8080" },
    initialise: { podTemplate: {} },
    log: { level: "info" },
  });
});

test.each([
  { says: "a mistyped field", config: { ...least, namepsace: "x" }, message: /operator\.yaml: the file: .*namepsace/ },
  {
    says: "an endpoint without port",
    config: { ...least, agents: { endpoint: "host" } },
    message: /agents\.endpoint: must be host:port/,
  },
  { says: "no trust domain", config: { ...least, trustDomain: undefined }, message: /trustDomain/ },
])("$says is refused with its name", async ({ config, message }) => {
  await expect(read(config)).rejects.toThrow(message);
});
