/**
 * The agent's door for the site's own people: HTTP on a unix socket in the data directory, reached by `kubectl exec … rondo agent …`.
 * Holds: the socket is 0600, so only the agent's own user in its own pod can ask; a site's losses are answered here and nowhere else.
 */
import { chmod, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import { join } from "node:path";
import { z } from "zod";
import { effect } from "../fault-injection.ts";
import type { HeldOut } from "../trainer/task.ts";
import { EvaluationFault, type EvaluationRequest } from "./evaluation.ts";
import type { RoundResult } from "./results.ts";
import type { AcceptRequest, RosterView } from "./roster.ts";

export interface AgentStatus {
  participant: string;
  /** Ed25519 public key, base64: to be compared with other sites. */
  identity: string;
  /** Its fingerprint, as `rondo agent roster` shows keys. */
  fingerprint: string;
  connected: boolean;
  /** `session`: the state of its session of secure aggregation, from ADVERTISED on. */
  open: Array<{ round: string; state: string; job: string; session: string | null }>;
}

export interface LocalHandlers {
  status(): AgentStatus;
  results(): Promise<RoundResult[]>;
  evaluate(request: EvaluationRequest): Promise<HeldOut>;
  roster(): Promise<RosterView>;
  acceptKey(request: AcceptRequest): Promise<object>;
}

const digest = z.string().regex(/^sha256:[0-9a-f]{64}$/, "is not sha256:<64 hex digits>");
const evaluationSchema = z.strictObject({
  federation: z.string().max(400).optional(),
  candidate: digest,
  parent: digest.optional(),
});
const acceptSchema = z.strictObject({
  participant: z.string().min(1).max(63),
  federation: z.string().max(400).optional(),
  fingerprint: z.string().regex(/^SHA256:[A-Za-z0-9+/]{43}$/, "is not SHA256:<43 characters>"),
});
const BODY_LIMIT_BYTES = 4096;

export function adminSocket(dataDir: string): string {
  return join(dataDir, "admin.sock");
}

export async function serveLocal(socket: string, handlers: LocalHandlers): Promise<{ close(): Promise<void> }> {
  await rm(socket, { force: true }); // left by a process that was killed
  effect("file", "remove admin.sock");
  const server = createServer(
    { requestTimeout: 10_000 },
    (incoming, response) => void answer(incoming, response, handlers),
  );
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(socket, () => resolve());
  });
  await chmod(socket, 0o600);
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function answer(incoming: IncomingMessage, response: ServerResponse, handlers: LocalHandlers): Promise<void> {
  const reply = (status: number, body: object) =>
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
  try {
    switch (`${incoming.method} ${incoming.url}`) {
      case "GET /v1/status":
        return void reply(200, handlers.status());
      case "GET /v1/results":
        return void reply(200, await handlers.results());
      case "POST /v1/evaluate":
        return void reply(200, await handlers.evaluate(evaluationSchema.parse(JSON.parse(await bodyOf(incoming)))));
      case "GET /v1/roster":
        return void reply(200, await handlers.roster());
      case "POST /v1/roster/accept":
        return void reply(200, await handlers.acceptKey(acceptSchema.parse(JSON.parse(await bodyOf(incoming)))));
      default:
        return void reply(404, { reason: "NotFound", message: "there is no such call" });
    }
  } catch (error) {
    if (error instanceof z.ZodError) return void reply(422, { reason: "BadRequest", message: wrongFields(error) });
    const { reason, code, message } = error as { reason?: string; code?: string; message?: string };
    const known = error instanceof EvaluationFault || (error as Error).name.endsWith("Fault");
    reply(known ? 422 : 500, {
      reason: reason ?? code ?? "Failed",
      message: known ? (message ?? "") : "the agent's log says why",
    });
  }
}

function wrongFields({ issues }: z.ZodError): string {
  return issues.map(({ path, message }) => `${path.join(".") || "the request"} ${message}`).join("; ");
}

async function bodyOf(incoming: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > BODY_LIMIT_BYTES) throw new EvaluationFault("TooLarge", "the request is too large");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/**
 * For the command line: one call to the agent that runs in this pod.
 * @throws Error with the agent's sentence
 */
export async function askAgent<T>(socket: string, method: "GET" | "POST", path: string, body?: object): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const call = request(
    { socketPath: socket, method, path, headers: { "content-type": "application/json" } },
    (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => {
        const value = JSON.parse(Buffer.concat(chunks).toString("utf8")) as T & { reason?: string; message?: string };
        if (response.statusCode === 200) resolve(value);
        else reject(new Error(`${value.reason}: ${value.message}`));
      });
    },
  );
  call.on("error", (error: NodeJS.ErrnoException) => {
    reject(
      error.code === "ENOENT" || error.code === "ECONNREFUSED" ? new Error(`no agent listens on ${socket}`) : error,
    );
  });
  call.end(body ? JSON.stringify(body) : undefined);
  return promise;
}
