/** `rondo agent results | status | evaluate`: asks the agent that runs in this pod and prints its answer as JSON. */
import { readFile } from "node:fs/promises";
import { parseAgentConfig } from "../agent/config.ts";
import { adminSocket, askAgent } from "../agent/local.ts";

interface LocalOptions {
  config: string;
}

export async function results(options: LocalOptions): Promise<void> {
  await print(options, "GET", "/v1/results");
}

export async function status(options: LocalOptions): Promise<void> {
  await print(options, "GET", "/v1/status");
}

export async function evaluate(
  options: LocalOptions & { versionDigest: string; parentDigest?: string; federation?: string },
): Promise<void> {
  const { versionDigest: candidate, parentDigest: parent, federation } = options;
  const wanted = { candidate, ...(parent && { parent }), ...(federation && { federation }) };
  await print(options, "POST", "/v1/evaluate", wanted);
}

async function print(options: LocalOptions, method: "GET" | "POST", path: string, body?: object): Promise<void> {
  const { dataDir } = parseAgentConfig(await readFile(options.config, "utf8"), options.config);
  const answer = await askAgent<unknown>(adminSocket(dataDir), method, path, body);
  process.stdout.write(`${JSON.stringify(answer, null, 2)}\n`);
}
