/** Over real HTTPS, with the CA that trainers are given and nothing else trusted. */
import { createHash, randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Result, Task } from "./task.ts";
import { newTaskToken, startTaskServer, type TaskServer, type TaskWork } from "./task-server.ts";

const task = { schema: 1, kind: "train" } as Task;
const result: Result = {
  schema: 1,
  examples: 30,
  steps: 4,
  tokens: 900,
  trainLoss: 2.5,
  heldOut: { tokens: 50, parentLoss: 3, loss: 2.9 },
};

let folder: string;
let server: TaskServer;
const results: Result[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rondo-tasks-"));
  server = await start();
  results.length = 0;
  await writeFile(join(folder, "parent"), "the parent adapter");
});

afterEach(async () => {
  await server.stop();
  await rm(folder, { recursive: true });
});

const start = () =>
  startTaskServer({ dataDir: join(folder, "tasks"), address: "127.0.0.1:0", hosts: ["127.0.0.1", "tasks.site.svc"] });

function open(change: Partial<TaskWork> = {}): string {
  const token = newTaskToken();
  server.open({
    token,
    task,
    adapterFile: join(folder, "parent"),
    outputFile: join(folder, "trained"),
    maxAdapterBytes: 1 << 20,
    onResult: async (delivered) => void results.push(delivered),
    ...change,
  });
  return token;
}

interface Answer {
  status: number;
  body: string;
}

function call(method: string, path: string, token: string, body?: Buffer | object, ca = server.caPem): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const sent = body === undefined || Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body));
  const headers = { authorization: `Bearer ${token}`, ...(sent ? { "content-length": sent.length } : {}) };
  const outgoing = request(
    { host: "127.0.0.1", port: server.port, method, path, ca, headers, agent: false },
    (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () => resolve({ status: response.statusCode!, body: Buffer.concat(chunks).toString() }));
      response.on("error", reject);
    },
  );
  outgoing.on("error", reject);
  outgoing.end(sent);
  return promise;
}

test("a trainer gets its task and the parent adapter, and gives back adapter and result", async () => {
  const token = open();
  expect(JSON.parse((await call("GET", "/v1/task", token)).body)).toEqual(task);
  expect((await call("GET", "/v1/task/adapter", token)).body).toBe("the parent adapter");
  const adapter = randomBytes(300_000);
  const sha256 = createHash("sha256").update(adapter).digest("hex");
  expect(JSON.parse((await call("PUT", "/v1/task/adapter", token, adapter)).body)).toEqual({
    sha256,
    byteLength: 300_000,
  });
  expect(await readFile(join(folder, "trained"))).toEqual(adapter);
  expect((await call("PUT", "/v1/task/result", token, { ...result, adapterSha256: sha256 })).status).toBe(204);
  expect(results).toEqual([{ ...result, adapterSha256: sha256 }]);
});

test("progress reaches the task's owner", async () => {
  const seen: unknown[] = [];
  const token = open({ onProgress: (progress) => seen.push(progress) });
  expect(
    (await call("POST", "/v1/task/progress", token, { step: 3, steps: 8, loss: 2.1, tokensPerSecond: 90 })).status,
  ).toBe(204);
  expect(seen).toEqual([{ step: 3, steps: 8, loss: 2.1, tokensPerSecond: 90 }]);
});

test.each([
  { says: "no token at all", token: () => "" },
  { says: "a token that was never given", token: () => newTaskToken() },
  {
    says: "a token whose task is closed",
    token: () => {
      const token = open();
      server.close(token);
      return token;
    },
  },
])("$says opens nothing", async ({ token }) => {
  expect((await call("GET", "/v1/task", token())).status).toBe(401);
});

test("a token opens its own task only", async () => {
  const other = open({ task: { ...task, participant: "other" } as Task });
  const own = open({ task: { ...task, participant: "own" } as Task });
  expect(JSON.parse((await call("GET", "/v1/task", own)).body).participant).toBe("own");
  expect(JSON.parse((await call("GET", "/v1/task", other)).body).participant).toBe("other");
});

test("an adapter larger than planned is refused and leaves no file", async () => {
  const token = open({ maxAdapterBytes: 1000 });
  await call("PUT", "/v1/task/adapter", token, randomBytes(200_000)).then(
    (answer) => expect(answer.status).toBe(413),
    (error: NodeJS.ErrnoException) => expect(["EPIPE", "ECONNRESET"]).toContain(error.code), // answered and closed while we still sent
  );
  expect(existsSync(join(folder, "trained"))).toBe(false);
  expect(existsSync(join(folder, "trained.part"))).toBe(false);
});

test.each([
  { says: "a body that is not JSON", body: Buffer.from("{"), status: 400 },
  { says: "a result without examples", body: { ...result, examples: undefined }, status: 422 },
  { says: "a result of 100 KB", body: { ...result, more: "x".repeat(100_000) }, status: 413 },
  { says: "a result before the adapter", body: result, status: 409 },
])("$says: $status", async ({ body, status }) => {
  const token = open();
  expect((await call("PUT", "/v1/task/result", token, body)).status).toBe(status);
  expect(results).toEqual([]);
});

test("a result that speaks of another adapter than the one delivered is refused", async () => {
  const token = open();
  await call("PUT", "/v1/task/adapter", token, Buffer.from("adapter"));
  const answer = await call("PUT", "/v1/task/result", token, { ...result, adapterSha256: "0".repeat(64) });
  expect(answer.status).toBe(422);
  expect(answer.body).toContain("adapterSha256");
});

test("NaN, which Python writes into JSON, is no number and no error", async () => {
  const token = open();
  await call("PUT", "/v1/task/adapter", token, Buffer.from("adapter"));
  const body = Buffer.from(
    '{"schema": 1, "examples": 3, "steps": 1, "tokens": 9, "trainLoss": NaN, "heldOut": {"tokens": 1, "loss": -Infinity}}',
  );
  expect((await call("PUT", "/v1/task/result", token, body)).status).toBe(204);
  expect(results[0]).toMatchObject({ trainLoss: null, heldOut: { tokens: 1, loss: null } });
});

test("the same result again gets the same answer, another one is refused, and the adapter is final", async () => {
  const token = open();
  await call("PUT", "/v1/task/adapter", token, Buffer.from("adapter"));
  expect((await call("PUT", "/v1/task/result", token, result)).status).toBe(204);
  expect((await call("PUT", "/v1/task/result", token, result)).status).toBe(204);
  expect((await call("PUT", "/v1/task/result", token, { ...result, examples: 31 })).status).toBe(409);
  expect((await call("PUT", "/v1/task/adapter", token, Buffer.from("another"))).status).toBe(409);
  expect(results).toHaveLength(1);
});

test("a result is answered only when its owner has made it durable", async () => {
  let refusals = 1;
  const token = open({
    onResult: async () => {
      if (refusals-- > 0) throw new Error("disk full");
    },
  });
  await call("PUT", "/v1/task/adapter", token, Buffer.from("adapter"));
  expect((await call("PUT", "/v1/task/result", token, result)).status).toBe(500);
  expect((await call("PUT", "/v1/task/result", token, result)).status).toBe(204);
});

test("an evaluation has a candidate and takes no adapter", async () => {
  await writeFile(join(folder, "candidate"), "the candidate");
  const { adapterFile, candidateFile } = {
    adapterFile: join(folder, "parent"),
    candidateFile: join(folder, "candidate"),
  };
  const token = newTaskToken();
  server.open({
    token,
    task: { ...task, kind: "evaluate" } as Task,
    adapterFile,
    candidateFile,
    maxAdapterBytes: 0,
    onResult: async (delivered) => void results.push(delivered),
  });
  expect((await call("GET", "/v1/task/candidate", token)).body).toBe("the candidate");
  expect((await call("PUT", "/v1/task/adapter", token, Buffer.from("x"))).status).toBe(405);
  expect((await call("PUT", "/v1/task/result", token, { ...result, steps: 0 })).status).toBe(204);
});

test("a trainer that was started before a restart still trusts the server after it, and delivers what it had to deliver", async () => {
  const caBefore = server.caPem;
  const token = open();
  await call("PUT", "/v1/task/adapter", token, Buffer.from("adapter"));
  await server.stop();
  server = await start();
  server.open({
    token,
    task,
    outputFile: join(folder, "trained"),
    maxAdapterBytes: 1 << 20,
    onResult: async (r) => void results.push(r),
  });
  expect((await call("PUT", "/v1/task/result", token, result, caBefore)).status).toBe(204);
});

test("nobody trusts the server without its CA", async () => {
  const other = await startTaskServer({ dataDir: join(folder, "other"), address: "127.0.0.1:0", hosts: ["127.0.0.1"] });
  await expect(call("GET", "/v1/task", open(), undefined, other.caPem)).rejects.toThrow(/certificate|signature/);
  await other.stop();
});
