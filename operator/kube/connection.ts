/**
 * Keep-alive HTTPS to one API server with credentials that rotate.
 * Holds: one agent at a time, replaced when server, CA or client certificate change; credentials re-read every
 *   REFRESH_MS and at once after a 401, which is tried again exactly once.
 * Does not: time out, retry or understand answers (client.ts). No undici: node:https is in every Node already and
 *   saves about 15 MiB of resident memory, and keep-alive, abort and client certificates are all that is needed.
 */
import { request as httpRequest, type IncomingMessage, Agent as PlainAgent } from "node:http";
import { request as httpsRequest, Agent as SecureAgent } from "node:https";
import type { CredentialSource, Credentials } from "./credentials.ts";
import { KubeFault } from "./faults.ts";

/** kubelet renews a projected token at 80 % of its life, at least ten minutes before the end: a minute is early enough. */
const REFRESH_MS = 60_000;
/** Below the API server's 90 s idle limit, so that we close first and no request meets a closing socket. */
const IDLE_SOCKET_MS = 45_000;
/** Watches hold one each; the rest is for calls. More calls than this wait in line instead of opening sockets. */
const MAX_SOCKETS = 64;

/** Enough for the largest list page; what is longer is no answer of an API server. */
const MAX_ANSWER_BYTES = 64 << 20;

export type Exchange = {
  method: string;
  /** Path and query. */
  path: string;
  headers: Record<string, string>;
  body?: string;
  signal: AbortSignal;
};

type Current = { credentials: Credentials; agent: PlainAgent; fingerprint: string; readAt: number };

export class Connection {
  readonly #source: CredentialSource;
  readonly #now: () => number;
  #current: Current | undefined;
  #reading: Promise<unknown> | undefined;

  constructor(source: CredentialSource, now: () => number = () => performance.now()) {
    this.#source = source;
    this.#now = now;
  }

  /** Sends, and returns the answer's head with its body unread. */
  async open(exchange: Exchange): Promise<IncomingMessage> {
    const current = await this.#ready(false);
    try {
      const answer = await send(exchange, current);
      if (answer.statusCode !== 401) return answer;
      answer.resume();
    } catch (error) {
      // A CA or client certificate that was replaced shows as a failed handshake: the next attempt reads anew.
      if (!exchange.signal.aborted) current.readAt = Number.NEGATIVE_INFINITY;
      throw error;
    }
    return send(exchange, await this.#ready(true));
  }

  async credentials(): Promise<Credentials> {
    return (await this.#ready(false)).credentials;
  }

  close(): void {
    this.#current?.agent.destroy();
    this.#current = undefined;
  }

  async #ready(mustRead: boolean): Promise<Current> {
    const current = this.#current;
    if (current && !mustRead && this.#now() - current.readAt < REFRESH_MS) return current;
    // Many calls may find the credentials old in the same moment: one of them reads.
    this.#reading ??= this.#read().finally(() => {
      this.#reading = undefined;
    });
    try {
      await this.#reading;
    } catch (error) {
      // A file that is just being replaced must not fail calls that still have a token.
      if (!current) throw error;
    }
    return this.#current ?? current!;
  }

  async #read(): Promise<void> {
    const credentials = await this.#source();
    const fingerprint = JSON.stringify([credentials.server, credentials.tls]);
    const previous = this.#current;
    const isSame = previous?.fingerprint === fingerprint;
    const agent = isSame ? previous.agent : newAgent(credentials);
    this.#current = { credentials, agent, fingerprint, readAt: this.#now() };
    if (previous && !isSame) retire(previous.agent);
  }
}

function newAgent({ server, tls, proxyAgent }: Credentials): PlainAgent {
  if (proxyAgent) return proxyAgent;
  const options = { keepAlive: true, keepAliveMsecs: 30_000, maxSockets: MAX_SOCKETS, timeout: IDLE_SOCKET_MS };
  return server.startsWith("https:") ? new SecureAgent({ ...options, ...tls }) : new PlainAgent(options);
}

/** Calls in flight keep their sockets to the end; idle ones go now. */
function retire(agent: PlainAgent): void {
  agent.maxFreeSockets = 0;
  for (const sockets of Object.values(agent.freeSockets)) for (const socket of sockets ?? []) socket.destroy();
}

function send(
  { method, path, headers, body, signal }: Exchange,
  { credentials, agent }: Current,
): Promise<IncomingMessage> {
  const base = credentials.server.replace(/\/+$/, "");
  const request = base.startsWith("https:") ? httpsRequest : httpRequest;
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const outgoing = request(`${base}${path}`, {
    method,
    agent,
    signal,
    headers: {
      ...headers,
      ...credentials.headers,
      ...(body === undefined ? {} : { "Content-Length": String(Buffer.byteLength(body)) }),
    },
  });
  outgoing.once("response", resolve);
  // Stays for the life of the request: an abort after the head arrived emits here as well, and unheard it would end the process.
  outgoing.on("error", reject);
  outgoing.end(body);
  return promise;
}

export async function readBody(answer: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_ANSWER_BYTES) throw new KubeFault("Unexpected", `an answer of more than ${MAX_ANSWER_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}
