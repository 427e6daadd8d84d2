/**
 * Answers a registry's 401: Basic with our credentials, or Bearer with a token fetched from the service it names
 * (distribution's token authentication). Works without credentials too, for repositories that anybody may read.
 * Holds: at most one answer per kind of refusal, so that a wrong password is tried once and not in a loop.
 */
import { request } from "undici";
import { z } from "zod";
import type { Credentials } from "./credentials.ts";

const MAX_ANSWER_BYTES = 64 << 10; // tokens are some kB, with many scopes more
const TIMEOUT_MS = 20_000;

const tokenSchema = z.object({ token: z.string().min(1).optional(), access_token: z.string().min(1).optional() });

export interface TokenServiceOptions {
  credentials?: Credentials;
  plainHttp?: boolean;
  signal?: AbortSignal;
}

export class TokenService {
  readonly #options: TokenServiceOptions;
  /** Authorization header by scope. */
  readonly #headers = new Map<string, string>();
  #basic: string | undefined;

  constructor(options: TokenServiceOptions) {
    this.#options = options;
  }

  authorization(scope: string): string | undefined {
    return this.#basic ?? this.#headers.get(scope);
  }

  /** @returns whether the same request is worth another try now */
  async answerChallenge(challenge: string | undefined, scope: string): Promise<boolean> {
    const { scheme, parameters } = parseChallenge(challenge ?? "");
    if (scheme === "basic") {
      if (this.#options.credentials === undefined || this.#basic !== undefined) return false;
      this.#basic = basic(this.#options.credentials);
      return true;
    }
    if (scheme !== "bearer") return false;
    const token = await this.#fetchToken(parameters, scope);
    if (token === undefined) return false;
    this.#headers.set(scope, `Bearer ${token}`);
    return true;
  }

  async #fetchToken(parameters: ReadonlyMap<string, string>, scope: string): Promise<string | undefined> {
    const realm = URL.parse(parameters.get("realm") ?? "");
    // A password does not go in the clear because a registry says so.
    if (realm === null || !(realm.protocol === "https:" || (this.#options.plainHttp && realm.protocol === "http:"))) {
      return undefined;
    }
    const service = parameters.get("service");
    if (service !== undefined) realm.searchParams.set("service", service);
    for (const one of scope.split(" ")) realm.searchParams.append("scope", one);
    const { credentials, signal } = this.#options;
    const response = await request(realm, {
      headers: credentials === undefined ? {} : { authorization: basic(credentials) },
      headersTimeout: TIMEOUT_MS,
      bodyTimeout: TIMEOUT_MS,
      signal: signal ?? null,
    });
    const text = await boundedText(response.body);
    if (response.statusCode !== 200) return undefined;
    return readToken(text);
  }
}

function readToken(text: string): string | undefined {
  try {
    const answer = tokenSchema.parse(JSON.parse(text));
    return answer.token ?? answer.access_token;
  } catch {
    return undefined;
  }
}

async function boundedText(body: AsyncIterable<Uint8Array>): Promise<string> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of body) {
    length += part.length;
    if (length > MAX_ANSWER_BYTES) return "";
    parts.push(part);
  }
  return Buffer.concat(parts).toString("utf8");
}

function basic({ username, password }: Credentials): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
}

/** `Bearer realm="https://…",service="…",scope="…"`: the first challenge of the header. */
export function parseChallenge(header: string): { scheme: string; parameters: ReadonlyMap<string, string> } {
  const scheme = /^\s*([A-Za-z]+)(\s|$)/.exec(header)?.[1]?.toLowerCase() ?? "";
  const parameters = new Map<string, string>();
  for (const [, name, quoted, plain] of header.matchAll(/([a-z_]+)=(?:"([^"]*)"|([^\s,"]+))/gi)) {
    if (!parameters.has(name!.toLowerCase())) parameters.set(name!.toLowerCase(), quoted ?? plain ?? "");
  }
  return { scheme, parameters };
}
