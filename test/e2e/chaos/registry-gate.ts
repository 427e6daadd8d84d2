/**
 * Stands between the operator and the registry, at the gateway of the clusters' network, and makes the registry's bad days: away, failing,
 * denying, cutting off, slow; and holds one repository's reads or writes, so that a round stays in the phase that needs them.
 * Does not: change what passes.
 */
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from "node:http";
import { setTimeout as delay } from "node:timers/promises";

export type Weather = "fair" | "failing" | "denying" | "cutting" | "slow";
export type Access = "read" | "write";

/** Of each request on a slow day. */
const SLOWNESS_MS = 2_000;

export class RegistryGate {
  readonly address: string;
  readonly #host: string;
  readonly #port: number;
  readonly #registry: { host: string; port: number };
  #server: Server | undefined;
  #weather: Weather = "fair";
  /** `<access> <repository>` → what waits for it. */
  readonly #held = new Map<string, Array<() => void>>();

  constructor(at: { host: string; port: number }, registry: { host: string; port: number }) {
    this.#host = at.host;
    this.#port = at.port;
    this.#registry = registry;
    this.address = `${at.host}:${at.port}`;
  }

  /** Nobody listened before: what comes now is answered. */
  async open(): Promise<void> {
    if (this.#server) return;
    const server = createServer((asked, answer) => {
      this.#pass(asked, answer).catch(() => answer.destroy());
    });
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject).listen(this.#port, this.#host, resolve);
    });
    this.#server = server;
  }

  /** Connections are refused, and those that are open break. */
  async close(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (!server) return;
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
  }

  become(weather: Weather): void {
    this.#weather = weather;
  }

  hold(access: Access, repository: string): void {
    this.#held.set(`${access} ${repository}`, []);
  }

  /** Whether something waits that was held. */
  isAsked(access: Access, repository: string): boolean {
    return (this.#held.get(`${access} ${repository}`)?.length ?? 0) > 0;
  }

  letGo(access: Access, repository: string): void {
    const waiting = this.#held.get(`${access} ${repository}`) ?? [];
    this.#held.delete(`${access} ${repository}`);
    for (const go of waiting) go();
  }

  async allFair(): Promise<void> {
    this.#weather = "fair";
    for (const key of [...this.#held.keys()]) this.letGo(...(key.split(" ") as [Access, string]));
    await this.open();
  }

  async #pass(asked: IncomingMessage, answer: ServerResponse): Promise<void> {
    const access: Access = asked.method === "GET" || asked.method === "HEAD" ? "read" : "write";
    const repository = /^\/v2\/(.+?)\/(?:blobs|manifests|tags)\//.exec(asked.url ?? "")?.[1] ?? "";
    const queue = this.#held.get(`${access} ${repository}`);
    if (queue) await new Promise<void>((resolve) => queue.push(resolve));
    if (this.#weather === "failing") return void answer.writeHead(500).end();
    if (this.#weather === "denying") return void answer.writeHead(403).end();
    if (this.#weather === "slow") await delay(SLOWNESS_MS);
    const forwarded = request(
      { ...this.#registry, method: asked.method, path: asked.url, headers: asked.headers },
      (response) => {
        answer.writeHead(response.statusCode ?? 502, response.headers);
        response.pipe(answer);
      },
    );
    forwarded.on("error", () => answer.destroy());
    // A blob is on its way when the line breaks: what the registry has of it is half of it.
    if (this.#weather === "cutting" && access === "write") asked.once("data", () => asked.destroy());
    asked.on("error", () => forwarded.destroy()).pipe(forwarded);
    answer.on("close", () => forwarded.destroy());
  }
}
