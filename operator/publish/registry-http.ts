/**
 * HTTP to one registry: authentication, bounded retries with backoff, redirects of reads, faults as sentences.
 * Token authentication as the distribution project documents it: a 401 names realm, service and scope; the token is kept per scope.
 * Holds: an Authorization header leaves only for the registry's own origin; what undici or a server says never reaches a message.
 * Does not: know blobs or manifests (oci.ts).
 */
import type { IncomingHttpHeaders } from "node:http";
import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { type Dispatcher, request } from "undici";
import { effect } from "../fault-injection.ts";
import type { Credentials } from "./credentials.ts";
import { PublishFault } from "./fault.ts";
import { TokenService } from "./registry-token.ts";

export interface RetryOptions {
  /** Of each request, the first one included. */
  attempts: number;
  firstDelayMs: number;
  maxDelayMs: number;
}

/** 0.25 + 0.5 + 1 + 2 s: about 4 s for a registry that restarts; longer outages are the caller's, who comes back. */
const RETRY: RetryOptions = { attempts: 5, firstDelayMs: 250, maxDelayMs: 4000 };
/** A registry commits a blob to its storage before it answers; object stores take their time. */
const HEADERS_TIMEOUT_MS = 60_000;
const BODY_TIMEOUT_MS = 30_000;
const MAX_REDIRECTS = 5;

export interface RegistryHttpOptions {
  registry: string;
  repository: string;
  credentials?: Credentials;
  plainHttp?: boolean;
  retry?: Partial<RetryOptions>;
  signal?: AbortSignal;
}

export interface Call {
  method: "GET" | "HEAD" | "POST" | "PUT" | "PATCH";
  /** Below the registry's origin; or `url`, which an upload's Location gave. */
  path?: string;
  url?: URL;
  action: "pull" | "push";
  /** Another repository of the registry that is read by this call (cross-repository mount). */
  alsoPull?: string | undefined;
  headers?: Record<string, string>;
  /** A function where it is read once per attempt. */
  body?: Uint8Array | (() => Uint8Array | Readable);
  accept: number[];
}

export interface Answer {
  status: number;
  url: URL;
  header(name: string): string | undefined;
  /** The whole body. @throws PublishFault "TooLarge" */
  bytes(limit: number): Promise<Uint8Array>;
  /** Hands out the body; what breaks in between becomes "RegistryUnreachable". */
  reading(read: (body: Readable) => Promise<void>): Promise<void>;
}

export class RegistryHttp {
  readonly #options: RegistryHttpOptions;
  readonly #retry: RetryOptions;
  readonly #origin: string;
  readonly #tokens: TokenService;

  constructor(options: RegistryHttpOptions) {
    this.#options = options;
    this.#retry = { ...RETRY, ...options.retry };
    this.#origin = `${options.plainHttp ? "http" : "https"}://${options.registry}`;
    this.#tokens = new TokenService(options);
  }

  /**
   * Repeats `work` while it ends in a transient fault, with jitter, so that many operators do not come back together.
   * @param work  may say that it got further: then the attempts count anew
   */
  async retrying<T>(work: (progress: () => void) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await work(() => {
          attempt = 1;
        });
      } catch (error) {
        if (!(error instanceof PublishFault && error.transient) || attempt >= this.#retry.attempts) throw error;
        const ceiling = Math.min(this.#retry.firstDelayMs * 2 ** (attempt - 1), this.#retry.maxDelayMs);
        await sleep(ceiling / 2 + (Math.random() * ceiling) / 2, undefined, { signal: this.#options.signal });
      }
    }
  }

  /**
   * One request, authenticated when the registry asks for it. Not repeated on faults: `retrying` is for whole steps.
   * @throws PublishFault unless the status is in `accept`
   */
  async send(call: Call): Promise<Answer> {
    const scope = this.#scope(call);
    let answer = await this.#request(call, scope);
    if (answer.status === 401 && (await this.#canAuthenticate(answer, scope))) {
      await discard(answer);
      answer = await this.#request(call, scope);
    }
    if (call.accept.includes(answer.status)) {
      if (call.method !== "GET") await discard(answer);
      if (call.action === "push" && call.method !== "GET" && call.method !== "HEAD") effect("push", () => named(call));
      return answer;
    }
    await discard(answer);
    throw this.#fault(call, answer.status);
  }

  async #canAuthenticate(refusal: Answer, scope: string): Promise<boolean> {
    try {
      return await this.#tokens.answerChallenge(refusal.header("www-authenticate"), scope);
    } catch (error) {
      throw this.#transport(error);
    }
  }

  async #request(call: Call, scope: string): Promise<Answer> {
    let url = call.url ?? new URL(call.path ?? "/", this.#origin);
    for (let redirects = 0; ; redirects++) {
      const isOurs = url.origin === this.#origin;
      const authorization = isOurs ? this.#tokens.authorization(scope) : undefined;
      const response = await this.#dispatch(url, call, authorization);
      const location = response.headers.location;
      const isRedirect = [301, 302, 303, 307, 308].includes(response.statusCode) && typeof location === "string";
      // Only reads are redirected: a registry sends blobs from an object store, with a signed address of its own.
      if (!isRedirect || !(call.method === "GET" || call.method === "HEAD") || redirects >= MAX_REDIRECTS) {
        return this.#answer(url, response);
      }
      await response.body.dump().catch(() => undefined);
      const next = new URL(location, url);
      if (url.protocol === "https:" && next.protocol !== "https:") {
        throw new PublishFault("Refused", `${this.#options.registry} sends us from https to http; not followed`);
      }
      url = next;
    }
  }

  async #dispatch(url: URL, call: Call, authorization: string | undefined): Promise<Dispatcher.ResponseData> {
    try {
      return await request(url, {
        method: call.method,
        headers: { ...call.headers, ...(authorization !== undefined && { authorization }) },
        body: typeof call.body === "function" ? call.body() : (call.body ?? null),
        headersTimeout: HEADERS_TIMEOUT_MS,
        bodyTimeout: BODY_TIMEOUT_MS,
        signal: this.#options.signal ?? null,
      });
    } catch (error) {
      throw this.#transport(error);
    }
  }

  #answer(url: URL, response: Dispatcher.ResponseData): Answer {
    const transport = (error: unknown) => this.#transport(error);
    const registry = this.#options.registry;
    return {
      status: response.statusCode,
      url,
      header: (name) => one(response.headers, name),
      async bytes(limit) {
        const parts: Uint8Array[] = [];
        let length = 0;
        try {
          for await (const part of response.body as AsyncIterable<Uint8Array>) {
            length += part.length;
            if (length > limit)
              throw new PublishFault("TooLarge", `an answer of ${registry} is longer than ${limit} bytes`);
            parts.push(part);
          }
        } catch (error) {
          throw transport(error);
        }
        return Buffer.concat(parts);
      },
      async reading(read) {
        try {
          await read(response.body);
        } catch (error) {
          throw transport(error);
        }
      },
    };
  }

  #scope({ action, alsoPull }: Call): string {
    const own = `repository:${this.#options.repository}:${action === "push" ? "pull,push" : "pull"}`;
    return alsoPull === undefined ? own : `${own} repository:${alsoPull}:pull`;
  }

  #transport(error: unknown): unknown {
    if (error instanceof PublishFault || this.#options.signal?.aborted) return error;
    const code = causeCode(error);
    if (code === undefined) return error;
    return new PublishFault("RegistryUnreachable", `registry ${this.#options.registry} cannot be reached (${code})`);
  }

  #fault(call: Call, status: number): PublishFault {
    const { registry, repository } = this.#options;
    const what = call.action === "push" ? "write to" : "read";
    if (status === 401 || status === 403) {
      const who = this.#options.credentials === undefined ? "without credentials" : "with these credentials";
      return new PublishFault(
        "Unauthorized",
        `registry ${registry} does not let us ${what} ${repository} ${who}`,
        status,
      );
    }
    if (status === 404 && call.url !== undefined) {
      return new PublishFault("RegistryUnreachable", `registry ${registry} lost an unfinished upload`, status);
    }
    if (status === 404) {
      return new PublishFault(
        "NotFound",
        `registry ${registry} does not have what was asked for in ${repository}`,
        status,
      );
    }
    if (status >= 500 || status === 429 || status === 408) {
      return new PublishFault("RegistryUnreachable", `registry ${registry} answers with status ${status}`, status);
    }
    return new PublishFault(
      "Refused",
      `registry ${registry} refuses to ${what} ${repository} (status ${status})`,
      status,
    );
  }
}

function named({ method, path, url }: Call): string {
  return `${method} ${path ?? (url?.searchParams.has("digest") ? "upload, its end" : "upload")}`;
}

function one(headers: IncomingHttpHeaders, name: string): string | undefined {
  const value = headers[name];
  return Array.isArray(value) ? value[0] : value;
}

async function discard(answer: Answer): Promise<void> {
  await answer.bytes(1 << 20).catch(() => undefined);
}

/** Trouble with our own files, which a body is read from or written to. */
const LOCAL = new Set(["EACCES", "EDQUOT", "EIO", "EISDIR", "EMFILE", "ENFILE", "ENOENT", "ENOSPC", "EPERM", "EROFS"]);

/** The short code of a network error ("ECONNREFUSED", "UND_ERR_SOCKET"); undefined: our disk, or a mistake of ours. */
function causeCode(error: unknown): string | undefined {
  for (let at = error; at instanceof Error; at = at.cause) {
    const code = (at as NodeJS.ErrnoException).code;
    if (
      typeof code === "string" &&
      /^(E[A-Z]+|UND_ERR_[A-Z_]+|ERR_(TLS|SSL)_[A-Z_]+|[A-Z]+_[A-Z_]*CERT[A-Z_]*)$/.test(code)
    ) {
      return LOCAL.has(code) ? undefined : code;
    }
  }
  return undefined;
}
