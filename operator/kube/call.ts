/**
 * One call to the API server: sent, tried again where that is safe (retry.ts), ended in time, its failure named.
 * Does not: know kinds or verbs (client.ts).
 */
import { setTimeout as sleep } from "node:timers/promises";
import { effect } from "../fault-injection.ts";
import { type Connection, readBody } from "./connection.ts";
import { type Deadline, startDeadline } from "./deadline.ts";
import { faultOfAnswer, KubeFault } from "./faults.ts";
import type { ClientMetrics } from "./metrics.ts";
import { type Query, withQuery } from "./paths.ts";
import { retryDelayMs } from "./retry.ts";

export type CallOptions = {
  /** The whole call, retries included. Default: the client's (10 s). */
  timeoutMs?: number;
  signal?: AbortSignal;
};

export type Call = CallOptions & {
  method: "GET" | "POST" | "PATCH" | "DELETE";
  path: string;
  query?: Query;
  body?: unknown;
  contentType?: string;
  /** The call in words, for the fault's message. */
  what: string;
  /** Answers may quote secret values. */
  isSecret?: boolean;
  idempotent: boolean;
};

export class Caller {
  readonly #connection: Connection;
  readonly #timeoutMs: number;
  readonly #metrics: ClientMetrics | undefined;

  constructor(connection: Connection, timeoutMs: number, metrics: ClientMetrics | undefined) {
    this.#connection = connection;
    this.#timeoutMs = timeoutMs;
    this.#metrics = metrics;
  }

  async json<A>(call: Call): Promise<A> {
    const text = await this.text({ ...call });
    try {
      return JSON.parse(text) as A;
    } catch {
      throw new KubeFault("Unexpected", `${call.what}: the answer is no JSON`);
    }
  }

  async text(call: Call): Promise<string> {
    const timeoutMs = call.timeoutMs ?? this.#timeoutMs;
    const endsAt = performance.now() + timeoutMs;
    const deadline = startDeadline(timeoutMs, call.signal);
    try {
      for (let attempt = 0; ; attempt++) {
        try {
          return await this.#once(call, deadline.signal);
        } catch (error) {
          const waitMs = this.#retryDelayMs(call, error, deadline, attempt);
          if (waitMs === undefined || performance.now() + waitMs >= endsAt) throw error;
          this.#metrics?.retried(call.method);
          await sleep(waitMs, undefined, { signal: deadline.signal });
        }
      }
    } catch (error) {
      throw faultOf(call, error, deadline);
    } finally {
      deadline.end();
    }
  }

  #retryDelayMs(call: Call, error: unknown, deadline: Deadline, attempt: number): number | undefined {
    const { code, retryAfterMs } = faultOf(call, error, deadline);
    const failed = { code, wasSent: !isNeverSent(error), ...(retryAfterMs === undefined ? {} : { retryAfterMs }) };
    return retryDelayMs(failed, attempt, call.idempotent, Math.random()); // jitter only
  }

  async #once(call: Call, signal: AbortSignal): Promise<string> {
    const startedAt = performance.now();
    let code = "error";
    try {
      const answer = await this.#connection.open({
        method: call.method,
        path: withQuery(call.path, call.query ?? {}),
        headers: { Accept: "application/json", ...(call.contentType ? { "Content-Type": call.contentType } : {}) },
        ...(call.body === undefined ? {} : { body: JSON.stringify(call.body) }),
        signal,
      });
      const status = answer.statusCode ?? 0;
      code = String(status);
      const body = await readBody(answer);
      if (status >= 200 && status < 300) {
        if (call.method !== "GET") effect("api", call.what);
        return body;
      }
      const retryAfter = answer.headers["retry-after"];
      throw faultOfAnswer(call.what, status, body, { retryAfter, secret: call.isSecret ?? false });
    } finally {
      this.#metrics?.answered(call.method, code, (performance.now() - startedAt) / 1000);
    }
  }
}

function faultOf(call: Call, error: unknown, deadline: Deadline): KubeFault {
  if (error instanceof KubeFault) return error;
  if (deadline.isOver()) return new KubeFault("Timeout", `${call.what}: ${(deadline.signal.reason as Error).message}`);
  if (call.signal?.aborted) return new KubeFault("Aborted", `${call.what}: aborted`);
  const { code, message } = error as NodeJS.ErrnoException;
  return new KubeFault("Unreachable", `${call.what}: ${code ?? message}`);
}

function isNeverSent(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === "ECONNREFUSED" || code === "ENOTFOUND" || code === "EAI_AGAIN" || code === "EHOSTUNREACH";
}
