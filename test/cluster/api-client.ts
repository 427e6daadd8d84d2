/** Asks a cluster's API server as its administrator: the few calls that bringing a cluster up needs. Whoever wants more takes the kubeconfig. */
import { readFileSync } from "node:fs";
import { request } from "node:https";
import { join } from "node:path";
import { certificateDir } from "./certificates.ts";
import type { Cluster } from "./layout.ts";

export type Answer = { status: number; body: string };

type Call = { method?: "GET" | "PATCH"; path: string; mergePatch?: unknown };

/** @throws when nobody listens or the answer takes longer than 5 s; an HTTP error is an answer */
export function ask(cluster: Cluster, { method = "GET", path, mergePatch }: Call): Promise<Answer> {
  const dir = certificateDir(cluster);
  const body = mergePatch === undefined ? undefined : JSON.stringify(mergePatch);
  return new Promise((resolve, reject) => {
    const call = request(
      {
        host: cluster.address,
        port: 6443,
        method,
        path,
        ca: readFileSync(join(dir, "ca.crt")),
        cert: readFileSync(join(dir, "admin.crt")),
        key: readFileSync(join(dir, "admin.key")),
        agent: false,
        timeout: 5000,
        headers: body === undefined ? {} : { "content-type": "application/merge-patch+json" },
      },
      (response) => {
        let text = "";
        response.setEncoding("utf8");
        response.on("data", (part: string) => {
          text += part;
        });
        response.on("end", () => resolve({ status: response.statusCode ?? 0, body: text }));
        response.on("error", reject);
      },
    );
    call.on("timeout", () => call.destroy(new Error(`${cluster.name}: the API server gave no answer in 5 s`)));
    call.on("error", reject);
    call.end(body);
  });
}

/** The object, or undefined when it does not exist or the API server cannot answer yet. */
export async function get<T>(cluster: Cluster, path: string): Promise<T | undefined> {
  try {
    const { status, body } = await ask(cluster, { path });
    return status === 200 ? (JSON.parse(body) as T) : undefined;
  } catch {
    return undefined;
  }
}
