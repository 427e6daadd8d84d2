import { connect } from "node:net";
import { Registry } from "prom-client";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { KubeFault } from "../kube/faults.ts";
import { Health } from "./health.ts";
import { serveTelemetry, type TelemetryServer } from "./http.ts";
import { createLogger } from "./logger.ts";
import { createRegistry } from "./registry.ts";

describe("the log", () => {
  const write = (level: "debug" | "info", log: (logger: ReturnType<typeof createLogger>) => void) => {
    const lines: Record<string, unknown>[] = [];
    log(createLogger({ level, name: "operator" }, { write: (line) => void lines.push(JSON.parse(line)) }));
    return lines;
  };

  test("has level, process and RFC 3339 time", () => {
    const [line] = write("info", (log) => log.info({ round: "a/b" }, "round planned"));
    expect(line).toMatchObject({ level: "info", process: "operator", round: "a/b", msg: "round planned" });
    expect(line!.time).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  });

  test("is silent below its level", () => {
    expect(write("info", (log) => log.debug("detail"))).toEqual([]);
  });

  test.each([
    { token: "t" },
    { a: { password: "t" } },
    { secret: { metadata: { name: "x" } } },
    { object: { data: { x: "t" } } },
    { request: { headers: { Authorization: "t" } } },
  ])("censors %j", (fields) => {
    const [line] = write("info", (log) => log.info(fields, "said"));
    expect(JSON.stringify(line)).toContain("[secret]");
    expect(JSON.stringify(line)).not.toContain('"t"');
  });

  test("gives a fault its code and no stack, and a bug its stack", () => {
    const [fault, bug] = write("info", (log) => {
      log.info({ err: new KubeFault("Conflict", "stale", { status: 409 }) }, "said");
      log.info({ err: new Error("bug") }, "said");
    });
    expect(fault!.err).toEqual({ type: "KubeFault", code: "Conflict", status: 409, message: "stale" });
    expect((bug!.err as { stack: string }).stack).toContain("telemetry.test.ts");
  });
});

describe("the telemetry server", () => {
  let server: TelemetryServer;
  let failure: string | undefined;
  const ask = async (path: string, method = "GET") => {
    const answer = await fetch(`http://127.0.0.1:${server.port}${path}`, { method });
    return { status: answer.status, text: await answer.text() };
  };

  beforeEach(async () => {
    failure = undefined;
    const health = new Health();
    health.addReady("caches", () => failure);
    const registry = createRegistry({ version: "0.1.0", process: "operator" });
    server = await serveTelemetry("127.0.0.1:0", { health, registry });
  });
  afterEach(() => server.close());

  test("is alive and not ready while a check says why", async () => {
    failure = "waiting for the first list of jobs";
    expect(await ask("/healthz")).toEqual({ status: 200, text: "ok\n" });
    expect(await ask("/readyz")).toEqual({ status: 503, text: "caches: waiting for the first list of jobs\n" });
    failure = undefined;
    expect(await ask("/readyz")).toEqual({ status: 200, text: "ok\n" });
  });

  test("shows process and event loop metrics and the version", async () => {
    const { text } = await ask("/metrics");
    expect(text).toContain('rondo_build_info{version="0.1.0",process="operator"} 1');
    expect(text).toContain("process_resident_memory_bytes");
    expect(text).toContain("nodejs_eventloop_lag_p99_seconds");
  });

  test("knows nothing else", async () => {
    expect((await ask("/")).status).toBe(404);
    expect((await ask("/metrics", "POST")).status).toBe(405);
  });

  test("outlives a path that is no URL", async () => {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const socket = connect(server.port, "127.0.0.1", () => socket.write("GET // HTTP/1.1\r\nHost: x\r\n\r\n"));
    socket.once("data", (head) => resolve(String(head).split("\r\n")[0]!)).once("error", reject);
    expect(await promise).toBe("HTTP/1.1 404 Not Found");
    socket.destroy();
    expect((await ask("/healthz?verbose")).status).toBe(200);
  });

  test("tells a bad address by name, and a port that is taken", async () => {
    const parts = { health: new Health(), registry: new Registry() };
    await expect(serveTelemetry("8080", parts)).rejects.toThrow("metrics address 8080: expected host:port");
    await expect(serveTelemetry(`127.0.0.1:${server.port}`, parts)).rejects.toThrow("EADDRINUSE");
  });
});
