/** The client against a far side that behaves in ways a real API server rarely can be made to. What is usual is in test/integration/kube. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { KubeClient } from "./client.ts";
import type { Credentials } from "./credentials.ts";
import { isKubeFault, type KubeFault } from "./faults.ts";
import { CONFIG_MAPS, PODS, SECRETS } from "./resources.ts";

let server: Server;
let answers: ((request: IncomingMessage, response: ServerResponse) => void)[];
let requests: {
  method: string;
  url: string;
  authorization: string | undefined;
  contentType: string | undefined;
  body: string;
}[];
let token: string;
let client: KubeClient;
let sockets: Set<unknown>;

beforeEach(async () => {
  answers = [];
  requests = [];
  token = "first";
  sockets = new Set();
  server = createServer(async (request, response) => {
    sockets.add(request.socket);
    let body = "";
    for await (const chunk of request) body += chunk;
    const { authorization, "content-type": contentType } = request.headers;
    requests.push({ method: request.method!, url: request.url!, authorization, contentType, body });
    (answers.shift() ?? ok({ metadata: {}, items: [] }))(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const credentials = async (): Promise<Credentials> => ({
    server: `http://127.0.0.1:${port}`,
    headers: { Authorization: `Bearer ${token}` },
    tls: {},
  });
  client = new KubeClient({ credentials, fieldManager: "me", timeoutMs: 2_000 });
});

afterEach(() => {
  client.close();
  server.closeAllConnections();
  server.close();
});

const ok = (body: unknown) => (_: IncomingMessage, response: ServerResponse) => void response.end(JSON.stringify(body));
const status =
  (code: number, more: { reason?: string; message?: string; headers?: Record<string, string> } = {}) =>
  (_: IncomingMessage, response: ServerResponse) => {
    const { headers = {}, ...rest } = more;
    response.writeHead(code, headers).end(JSON.stringify({ kind: "Status", code, ...rest }));
  };
const cut = (request: IncomingMessage) => void request.socket.destroy();
const silence = () => undefined;
const pod = { namespace: "ns", name: "p" };
const faultOf = async (call: Promise<unknown>): Promise<KubeFault> => {
  const error = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!isKubeFault(error)) throw new Error(`expected a KubeFault, got ${String(error)}`);
  return error;
};

describe("retries", () => {
  test("a read survives 503, 429 and a cut connection", async () => {
    answers = [status(503), status(429, { headers: { "Retry-After": "0" } }), cut, ok({ metadata: { name: "p" } })];
    expect((await client.get(PODS, pod))?.metadata.name).toBe("p");
    expect(requests).toHaveLength(4);
  });

  test("a create is not sent twice when the connection breaks", async () => {
    answers = [cut];
    const fault = await faultOf(client.create(PODS, { metadata: pod }));
    expect(fault.code).toBe("Unreachable");
    expect(requests).toHaveLength(1);
  });

  test("Retry-After beyond the call's time fails at once", async () => {
    answers = [status(429, { headers: { "Retry-After": "60" } })];
    const fault = await faultOf(client.get(PODS, pod));
    expect(fault).toMatchObject({ code: "TooManyRequests", retryAfterMs: 60_000 });
  });

  test("401 reads the credentials again and tries once more", async () => {
    answers = [
      (request, response) => {
        token = "second";
        status(401)(request, response);
      },
      ok({ metadata: { name: "p" } }),
    ];
    await client.get(PODS, pod);
    expect(requests.map((request) => request.authorization)).toEqual(["Bearer first", "Bearer second"]);
    answers = [status(401), status(401)];
    expect((await faultOf(client.get(PODS, pod))).code).toBe("Unauthorized");
  });
});

test("a silent server is a Timeout in time", async () => {
  answers = [silence];
  const startedAt = performance.now();
  const fault = await faultOf(client.get(PODS, pod, { timeoutMs: 150 }));
  expect(fault).toMatchObject({ code: "Timeout", message: "get pods ns/p: not within 150 ms" });
  expect(performance.now() - startedAt).toBeLessThan(1_000);
});

test("an answer that begins and never ends is a Timeout too", async () => {
  answers = [(_, response) => void response.write('{"metadata":')];
  expect((await faultOf(client.get(PODS, pod, { timeoutMs: 150 }))).code).toBe("Timeout");
});

test("the caller's signal is Aborted", async () => {
  answers = [silence];
  expect((await faultOf(client.get(PODS, pod, { signal: AbortSignal.timeout(50) }))).code).toBe("Aborted");
});

test("calls share one connection", async () => {
  for (let i = 0; i < 5; i++) await client.list(PODS, { namespace: "ns" });
  expect(sockets.size).toBe(1);
});

test("what the server says about a Secret stays out of the message, about others it is cut", async () => {
  answers = [status(422, { reason: "Invalid", message: 'data: Invalid value: "hunter2"' })];
  const fault = await faultOf(client.create(SECRETS, { metadata: { namespace: "ns", name: "s" } }));
  expect(fault).toMatchObject({ code: "Invalid", message: "create secrets ns/s: Invalid" });
  answers = [status(422, { message: "x".repeat(5_000) })];
  expect((await faultOf(client.create(CONFIG_MAPS, { metadata: pod }))).message).toHaveLength(1024);
});

test("an answer that is no Status is not quoted", async () => {
  answers = [(_, response) => void response.writeHead(403).end("<html>a proxy's page with a cookie</html>")];
  expect((await faultOf(client.get(PODS, pod))).message).toBe("get pods ns/p: HTTP 403");
});

test("a list that etcd's compaction breaks in the middle begins anew without pages", async () => {
  const item = (name: string) => ({ metadata: { name, namespace: "ns" } });
  answers = [
    ok({ metadata: { continue: "c1", resourceVersion: "5" }, items: [item("a")] }),
    status(410, { reason: "Expired" }),
    ok({ metadata: { resourceVersion: "9" }, items: [item("a"), item("b")] }),
  ];
  const list = await client.list(PODS, { namespace: "ns", pageSize: 1 });
  expect(list.items.map((object) => `${object.apiVersion} ${object.kind} ${object.metadata.name}`)).toEqual([
    "v1 Pod a",
    "v1 Pod b",
  ]);
  expect(list.resourceVersion).toBe("9");
  expect(requests.map((request) => request.url)).toEqual([
    "/api/v1/namespaces/ns/pods?limit=1",
    "/api/v1/namespaces/ns/pods?limit=1&continue=c1",
    "/api/v1/namespaces/ns/pods",
  ]);
});

test("apply sends what server-side apply wants", async () => {
  await client.applyStatus(PODS, {
    metadata: { ...pod, resourceVersion: "5", uid: "u" },
    status: { phase: "Running" },
  });
  expect(requests[0]).toMatchObject({
    method: "PATCH",
    url: "/api/v1/namespaces/ns/pods/p/status?fieldManager=me&force=true",
    contentType: "application/apply-patch+yaml",
  });
  expect(JSON.parse(requests[0]!.body)).toEqual({
    apiVersion: "v1",
    kind: "Pod",
    metadata: pod,
    status: { phase: "Running" },
  });
});

describe("a watch", () => {
  const watchAll = async (options = {}) => {
    const seen: string[] = [];
    for await (const { type, object } of client.watch(PODS, { resourceVersion: "1", timeoutSeconds: 60, ...options })) {
      seen.push(`${type} ${object.metadata.name}`);
    }
    return seen;
  };
  const line = (type: string, name: string) => `${JSON.stringify({ type, object: { metadata: { name } } })}\n`;

  test("gives events that come in pieces, with names cut inside a character", async () => {
    const bytes = Buffer.from(line("ADDED", "a") + line("MODIFIED", "ü") + line("BOOKMARK", ""));
    answers = [
      async (_, response) => {
        for (const byte of bytes) {
          response.write(Buffer.of(byte));
          await new Promise((resolve) => setImmediate(resolve));
        }
        response.end();
      },
    ];
    expect(await watchAll()).toEqual(["ADDED a", "MODIFIED ü", "BOOKMARK "]);
  });

  test("ends with Gone on an ERROR event 410", async () => {
    answers = [
      (_, response) => void response.end(JSON.stringify({ type: "ERROR", object: { code: 410, message: "too old" } })),
    ];
    expect((await faultOf(watchAll())).code).toBe("Gone");
  });

  test("ends with Timeout when nothing comes for too long, and not while something comes", async () => {
    answers = [
      async (_, response) => {
        for (let i = 0; i < 4; i++) {
          response.write(line("ADDED", `p${i}`));
          await new Promise((resolve) => setTimeout(resolve, 60));
        }
      },
    ];
    const startedAt = performance.now();
    expect((await faultOf(watchAll({ silenceMs: 150 }))).code).toBe("Timeout");
    expect(performance.now() - startedAt).toBeGreaterThan(300);
  });

  test("ends with Unreachable when it is cut", async () => {
    answers = [
      (request, response) => {
        response.write(line("ADDED", "a"));
        setTimeout(() => request.socket.destroy(), 20);
      },
    ];
    expect((await faultOf(watchAll())).code).toBe("Unreachable");
  });

  test("closes its connection when the reader leaves", async () => {
    let isClosed = false;
    answers = [
      (request, response) => {
        request.socket.on("close", () => {
          isClosed = true;
        });
        response.write(line("ADDED", "a"));
      },
    ];
    for await (const _ of client.watch(PODS, { resourceVersion: "1", timeoutSeconds: 60 })) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(isClosed).toBe(true);
  });
});
