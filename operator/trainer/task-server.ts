/**
 * The HTTPS API through which a trainer gets its task and gives its adapter back (trainer.md "How it meets its task").
 * Holds: a token opens exactly one task and nothing after `close`; a body is never larger in memory than LIMITS say, an adapter goes
 * straight to its file, which appears whole and fsynced or not at all; a result is answered only when its owner has made it durable.
 * Does not: know Jobs, rounds or what an adapter must look like; the owner of the task does.
 */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { pipeline } from "node:stream/promises";
import { digestHex, type Progress, progressSchema, type Result, resultSchema, type Task } from "./task.ts";
import { openTaskAuthority } from "./task-authority.ts";
import { receiveFile, receiveJson, TaskFault } from "./task-body.ts";

/** Results are a few hundred bytes; room for fields of later trainers. */
const RESULT_LIMIT_BYTES = 64 * 1024;
const PROGRESS_LIMIT_BYTES = 4 * 1024;
const HEADERS_TIMEOUT_MS = 15_000;
/** The longest one request may take: an adapter of gigabytes over a cluster's own network. */
const REQUEST_TIMEOUT_MS = 15 * 60_000;

const NO_ROOM = "there is no room on the volume; try again";

/** The authority answers with the certificate it has until half of its life is over. */
const RENEWAL_LOOK_MS = 12 * 3_600_000;

export interface TaskWork {
  /** Random, 32 bytes in base64url: `newTaskToken()`. Whoever shows it is the trainer of this task. */
  token: string;
  task: Task;
  /** Parent adapter; absent in `initialise`. */
  adapterFile?: string;
  /** In `evaluate`: the adapter to compare with the parent. */
  candidateFile?: string;
  /** Where the trained adapter is put; absent in `evaluate`. */
  outputFile?: string;
  maxAdapterBytes: number;
  /** A result that was accepted before a restart: the same one again is answered in the same way. */
  delivered?: Result;
  onFetched?(): void;
  onProgress?(progress: Progress): void;
  /** Makes the result durable; only then does the trainer get its answer. A rejection is answered 500, and the trainer tries again. */
  onResult(result: Result): Promise<void>;
}

export interface TaskServer {
  /** What trainers must trust. */
  readonly caPem: string;
  readonly port: number;
  /** Serves the task until `close`; a second `open` with the same token takes the first one's place, with what it is receiving. */
  open(work: TaskWork): void;
  close(token: string): void;
  /** Stops listening, ends what is in flight. */
  stop(): Promise<void>;
}

export interface TaskServerOptions {
  /** Holds the authority's key; kept over restarts. */
  dataDir: string;
  /** "0.0.0.0:8445"; port 0 takes a free one. */
  address: string;
  /** What the certificate names: the Service's cluster IP and its DNS names. */
  hosts: string[];
  log?: { warn(fields: object, message: string): void };
  /** Where adapters are put: while it has no room none is taken, and the trainer tries again. */
  storage?: { readonly problem: object | undefined; noteFull(): void };
  now?: () => number;
}

export function newTaskToken(): string {
  return randomBytes(32).toString("base64url");
}

interface OpenTask extends TaskWork {
  digest: Buffer;
  receiving: boolean;
  /** SHA-256 of the adapter last received, hex; computed again from the file after a restart. */
  adapterSha256?: string;
}

export async function startTaskServer(options: TaskServerOptions): Promise<TaskServer> {
  const now = options.now ?? Date.now;
  const authority = await openTaskAuthority(options.dataDir, now());
  const serving = await authority.issue(options.hosts, now());
  const tasks = new Map<string, OpenTask>();

  const server = createServer(
    { key: serving.keyPem, cert: serving.certPem, minVersion: "TLSv1.2", requestTimeout: REQUEST_TIMEOUT_MS },
    (request, response) => void answer(request, response, tasks, options),
  );
  server.headersTimeout = HEADERS_TIMEOUT_MS;
  server.maxConnections = 256;
  const { host, port } = parseAddress(options.address);
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => resolve());
  });
  const renewal = setInterval(() => {
    authority.issue(options.hosts, now()).then(
      (fresh) => server.setSecureContext({ key: fresh.keyPem, cert: fresh.certPem, minVersion: "TLSv1.2" }),
      (error: unknown) => options.log?.warn({ err: error }, "task certificate not renewed; the old one goes on"),
    );
  }, RENEWAL_LOOK_MS);
  renewal.unref();

  return {
    caPem: authority.caPem,
    port: (server.address() as AddressInfo).port,
    open(work) {
      const digest = tokenDigest(work.token);
      const key = digest.toString("hex");
      const known = tasks.get(key);
      // The same object: a body that is on its way ends in the work that is open then.
      if (known) Object.assign(known, { delivered: undefined }, work);
      else tasks.set(key, { ...work, digest, receiving: false });
    },
    close(token) {
      tasks.delete(tokenDigest(token).toString("hex"));
    },
    stop() {
      clearInterval(renewal);
      return stopServer(server);
    },
  };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  tasks: Map<string, OpenTask>,
  { log, storage }: Pick<TaskServerOptions, "log" | "storage">,
): Promise<void> {
  try {
    const task = authorised(request, tasks);
    if (request.method === "PUT" && storage?.problem) throw new TaskFault(507, NO_ROOM);
    await route(request, response, task);
  } catch (error) {
    const isFull = (error as NodeJS.ErrnoException).code === "ENOSPC";
    if (isFull) storage?.noteFull();
    const fault = error instanceof TaskFault ? error : isFull ? new TaskFault(507, NO_ROOM) : undefined;
    if (!fault) log?.warn({ err: error, path: request.url }, "task request failed");
    if (response.headersSent) {
      response.destroy();
      return;
    }
    // What is left of a body that nobody will read must not keep the connection.
    response.setHeader("connection", "close");
    reply(response, fault?.status ?? 500, { error: fault?.message ?? "internal error; try again" });
    request.resume();
  }
}

/** @throws TaskFault 401, the same for a wrong token and for one that has ended */
function authorised(request: IncomingMessage, tasks: Map<string, OpenTask>): OpenTask {
  const shown = /^Bearer ([A-Za-z0-9_-]{43})$/.exec(request.headers.authorization ?? "")?.[1];
  if (!shown) throw new TaskFault(401, "a bearer token is needed");
  // The map is asked with the token's hash: how long that takes says nothing about the tokens in it.
  const digest = tokenDigest(shown);
  const task = tasks.get(digest.toString("hex"));
  if (!task || !timingSafeEqual(task.digest, digest)) throw new TaskFault(401, "this token opens no task (any more)");
  return task;
}

async function route(request: IncomingMessage, response: ServerResponse, task: OpenTask): Promise<void> {
  const path = new URL(request.url ?? "/", "https://tasks").pathname;
  switch (`${request.method} ${path}`) {
    case "GET /v1/task":
      task.onFetched?.();
      return reply(response, 200, task.task);
    case "GET /v1/task/adapter":
      return sendFile(response, task.adapterFile, "this task has no parent adapter");
    case "GET /v1/task/candidate":
      return sendFile(response, task.candidateFile, "this task has no candidate");
    case "POST /v1/task/progress":
      task.onProgress?.(await receiveJson(request, progressSchema, PROGRESS_LIMIT_BYTES));
      return reply(response, 204);
    case "PUT /v1/task/adapter":
      return receiveAdapter(request, response, task);
    case "PUT /v1/task/result":
      return receiveResult(request, response, task);
    default:
      throw new TaskFault(404, `there is no ${request.method} ${path.slice(0, 64)}`);
  }
}

async function sendFile(response: ServerResponse, file: string | undefined, absent: string): Promise<void> {
  if (!file) throw new TaskFault(404, absent);
  const { size } = await stat(file);
  response.writeHead(200, { "content-type": "application/octet-stream", "content-length": size });
  await pipeline(createReadStream(file), response);
}

async function receiveAdapter(request: IncomingMessage, response: ServerResponse, task: OpenTask): Promise<void> {
  if (!task.outputFile) throw new TaskFault(405, `a task of kind ${task.task.kind} delivers no adapter`);
  if (task.delivered) throw new TaskFault(409, "the result is delivered; the adapter is final");
  // Not 409, which is final to a trainer: its lost connection may not be noticed here yet when it tries again.
  if (task.receiving) throw new TaskFault(425, "another delivery of this adapter is under way; try again");
  task.receiving = true;
  try {
    const received = await receiveFile(request, task.outputFile, task.maxAdapterBytes);
    task.adapterSha256 = received.sha256;
    reply(response, 200, { sha256: received.sha256, byteLength: received.byteLength });
  } finally {
    task.receiving = false;
  }
}

async function receiveResult(request: IncomingMessage, response: ServerResponse, task: OpenTask): Promise<void> {
  const result = await receiveJson(request, resultSchema, RESULT_LIMIT_BYTES);
  if (task.delivered) {
    if (JSON.stringify(task.delivered) !== JSON.stringify(result))
      throw new TaskFault(409, "another result was delivered before");
    return reply(response, 204);
  }
  // Else what was checked would be replaced after it was taken.
  if (task.receiving) throw new TaskFault(425, "a delivery of the adapter is under way; try again");
  if (task.outputFile) await checkAdapter(task, task.outputFile, result);
  await task.onResult(result);
  task.delivered = result;
  reply(response, 204);
}

async function checkAdapter(task: OpenTask, file: string, result: Result): Promise<void> {
  task.adapterSha256 ??= await fileSha256(file);
  if (!task.adapterSha256) throw new TaskFault(409, "PUT /v1/task/adapter comes before the result");
  if (result.adapterSha256 && digestHex(result.adapterSha256) !== task.adapterSha256) {
    throw new TaskFault(
      422,
      `adapterSha256 is ${result.adapterSha256}, but the adapter received has ${task.adapterSha256}`,
    );
  }
}

async function fileSha256(file: string): Promise<string | undefined> {
  const hash = createHash("sha256");
  try {
    for await (const chunk of createReadStream(file)) hash.update(chunk as Buffer);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  return hash.digest("hex");
}

function reply(response: ServerResponse, status: number, body?: object): void {
  if (body === undefined) {
    response.writeHead(status).end();
    return;
  }
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

function tokenDigest(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}

function parseAddress(address: string): { host: string; port: number } {
  const at = address.lastIndexOf(":");
  return { host: address.slice(0, at).replace(/^\[|\]$/g, ""), port: Number(address.slice(at + 1)) };
}

function stopServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
