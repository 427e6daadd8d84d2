/**
 * /healthz, /readyz and /metrics on the metrics address. Plain HTTP, GET only, nothing private behind it.
 */
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Registry } from "prom-client";
import type { Health } from "./health.ts";

export type TelemetryServer = {
  /** The port that was really bound. */
  port: number;
  /** Answers what it has begun, then ends. */
  close(): Promise<void>;
};

/** @param address  "host:port"; port 0 for any */
export async function serveTelemetry(
  address: string,
  { health, registry }: { health: Health; registry: Registry },
): Promise<TelemetryServer> {
  const { host, port } = parseAddress(address);
  const server = createServer({ requestTimeout: 10_000, keepAliveTimeout: 5_000 }, (request, response) => {
    if (request.method !== "GET" && request.method !== "HEAD") return answer(response, 405, "only GET\n");
    switch (pathOf(request.url)) {
      case "/healthz":
        return answerChecks(response, health.liveFailures());
      case "/readyz":
        return answerChecks(response, health.readyFailures());
      case "/metrics":
        return void registry.metrics().then(
          (text) => answer(response, 200, text, registry.contentType),
          () => answer(response, 500, "metrics could not be collected\n"),
        );
      default:
        return answer(response, 404, "not found\n");
    }
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, resolve);
  });
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeIdleConnections();
      }),
  };
}

/** By hand: new URL() throws for a path like "//", and what is thrown here would end the process. */
function pathOf(url = "/"): string {
  return url.split("?", 1)[0]!;
}

function answerChecks(response: ServerResponse, failures: string[]): void {
  if (failures.length === 0) answer(response, 200, "ok\n");
  else answer(response, 503, `${failures.join("\n")}\n`);
}

function answer(response: ServerResponse, status: number, text: string, contentType = "text/plain"): void {
  response.writeHead(status, { "Content-Type": contentType, "Cache-Control": "no-store" }).end(text);
}

function parseAddress(address: string): { host: string; port: number } {
  const colon = address.lastIndexOf(":");
  const port = Number(address.slice(colon + 1));
  if (colon < 0 || !Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new TypeError(`metrics address ${address}: expected host:port`);
  }
  return { host: address.slice(0, colon).replace(/^\[|\]$/g, "") || "0.0.0.0", port };
}
