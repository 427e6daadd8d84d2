/**
 * One API server for all test files of a run: two cores carry one better than six.
 * vitest calls `setup` once (globalSetup in vitest.config.ts); the server starts when the first file asks for it, so
 * that a run without such files has none. Files that break the server (freeze, kill, compact) start one of their own.
 */
import { createServer, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KubeClient } from "../../operator/kube/client.ts";
import { fromKubeconfig } from "../../operator/kube/credentials.ts";
import { type ApiServer, createNamespace, installCrds, startApiServer } from "./api-server.ts";

export type SharedApiServer = Pick<ApiServer, "kubeconfig" | "client" | "createNamespace">;

const SOCKET_VARIABLE = "RONDO_TEST_API_SERVER_SOCKET";

/** vitest's hook, in its main process. Workers inherit the environment. */
export default async function setup(): Promise<() => Promise<void>> {
  const socket = join(tmpdir(), `rondo-api-${process.pid}.sock`);
  let server: Promise<ApiServer> | undefined;
  const door = createServer((_request, response) => {
    server ??= startApiServer({ controllerManager: true });
    server.then(
      ({ kubeconfig }) => response.end(kubeconfig),
      (error: Error) => response.writeHead(500).end(error.message),
    );
  });
  await new Promise<void>((resolve, reject) => door.once("error", reject).listen(socket, resolve));
  process.env[SOCKET_VARIABLE] = socket;
  return async () => {
    door.close();
    await (await server)?.stop();
  };
}

/** The run's server, with the CRDs installed and a controller manager (Jobs get pods, owned objects are collected). Nobody stops it but the run. */
export async function sharedApiServer(): Promise<SharedApiServer> {
  const socket = process.env[SOCKET_VARIABLE];
  if (!socket) throw new Error("no shared API server: is globalSetup missing in vitest.config.ts?");
  const kubeconfig = await ask(socket);
  const client = new KubeClient({ credentials: fromKubeconfig(kubeconfig), fieldManager: "test" });
  await installCrds(client);
  return { kubeconfig, client, createNamespace: (prefix = "test") => createNamespace(client, prefix) };
}

function ask(socketPath: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ socketPath, path: "/" }, async (answer) => {
      let text = "";
      for await (const chunk of answer) text += chunk;
      if (answer.statusCode === 200) resolve(text);
      else reject(new Error(text));
    });
    outgoing.once("error", reject).end();
  });
}
