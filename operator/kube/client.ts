/**
 * The Kubernetes API as Rondo uses it: raw JSON objects, named faults (faults.ts), every call bounded in time.
 * Holds: a call ends within `timeoutMs`, its retries included (watches excepted: watch.ts). Writes by server-side
 *   apply carry the field manager; nothing is ever replaced as a whole.
 * Does not: cache (cache.ts), or read kubeconfigs itself (credentials.ts).
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Connection, readBody } from "./connection.ts";
import type { CredentialSource } from "./credentials.ts";
import { type Deadline, startDeadline } from "./deadline.ts";
import { faultOfAnswer, isKubeFault, KubeFault } from "./faults.ts";
import type { ClientMetrics } from "./metrics.ts";
import type { Draft, KubeObject, Ref, ResourceKind } from "./objects.ts";
import { collectionPath, objectPath, type Query, withQuery } from "./paths.ts";
import { retryDelayMs } from "./retry.ts";
import { type WatchEvent, type WatchOptions, watchEvents } from "./watch.ts";

export type CallOptions = {
  /** The whole call, retries included. Default: the client's (10 s). */
  timeoutMs?: number;
  signal?: AbortSignal;
};

export type ListOptions = CallOptions & {
  namespace?: string;
  labelSelector?: string;
  fieldSelector?: string;
  /** Objects per page; all pages are read. Default 500. */
  pageSize?: number;
};

export type ObjectList<T> = { items: T[]; resourceVersion: string };

export type ApplyOptions = CallOptions & {
  /** Default: the client's. */
  fieldManager?: string;
  /** Take fields over from other managers instead of failing with Conflict. Default true: a controller owns what it applies. */
  force?: boolean;
};

export type DeleteOptions = CallOptions & {
  propagationPolicy?: "Background" | "Foreground" | "Orphan";
  gracePeriodSeconds?: number;
  preconditions?: { uid?: string; resourceVersion?: string };
};

export type LogOptions = CallOptions & { container?: string; tailLines?: number; limitBytes?: number };

export type KubeClientOptions = {
  credentials: CredentialSource;
  /** Who owns the fields we apply: "rondo-operator", "rondo-agent". */
  fieldManager: string;
  timeoutMs?: number;
  metrics?: ClientMetrics;
};

type Call = CallOptions & {
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

export class KubeClient {
  readonly fieldManager: string;
  readonly #connection: Connection;
  readonly #timeoutMs: number;
  readonly #metrics: ClientMetrics | undefined;

  constructor({ credentials, fieldManager, timeoutMs = 10_000, metrics }: KubeClientOptions) {
    this.fieldManager = fieldManager;
    this.#connection = new Connection(credentials);
    this.#timeoutMs = timeoutMs;
    this.#metrics = metrics;
  }

  /** The namespace of the ServiceAccount or of the kubeconfig's context, where there is one. */
  async namespace(): Promise<string | undefined> {
    return (await this.#connection.credentials()).namespace;
  }

  /** The object, or undefined when there is none. */
  async get<T extends KubeObject>(kind: ResourceKind<T>, ref: Ref, options: CallOptions = {}): Promise<T | undefined> {
    try {
      return await this.#object<T>({ ...aimed("get", kind, ref), ...options, method: "GET", idempotent: true });
    } catch (error) {
      if (isKubeFault(error, "NotFound")) return undefined;
      throw error;
    }
  }

  /** All objects, page by page, as of one resourceVersion. Without a namespace: of all namespaces. */
  async list<T extends KubeObject>(kind: ResourceKind<T>, options: ListOptions = {}): Promise<ObjectList<T>> {
    try {
      return await this.#pages(kind, options, options.pageSize ?? 500);
    } catch (error) {
      if (!isKubeFault(error, "Gone")) throw error;
      // etcd was compacted between two pages: the pages so far are of a past that can no longer be completed.
      return this.#pages(kind, options, undefined);
    }
  }

  /** @throws KubeFault "AlreadyExists" — for a deterministic name that is as good as success, if the object is ours */
  create<T extends KubeObject>(kind: ResourceKind<T>, object: Draft<T>, options: CallOptions = {}): Promise<T> {
    const { name, generateName, namespace } = object.metadata;
    return this.#object<T>({
      ...options,
      method: "POST",
      path: collectionPath(kind, namespace),
      query: { fieldManager: this.fieldManager },
      body: { ...object, ...identity(kind) },
      contentType: "application/json",
      what: `create ${kind.plural} ${namespace ?? ""}/${name ?? `${generateName}…`}`,
      isSecret: kind.kind === "Secret",
      idempotent: false,
    });
  }

  /** Server-side apply: creates the object or sets the given fields, and removes those we applied before and now leave out. */
  apply<T extends KubeObject>(kind: ResourceKind<T>, object: Draft<T>, options: ApplyOptions = {}): Promise<T> {
    return this.#apply(kind, object, undefined, options);
  }

  /** Server-side apply of the status subresource; of `object` only metadata.name, metadata.namespace and status count. */
  applyStatus<T extends KubeObject>(kind: ResourceKind<T>, object: Draft<T>, options: ApplyOptions = {}): Promise<T> {
    return this.#apply(kind, object, "status", options);
  }

  /** JSON merge patch (RFC 7386). A metadata.resourceVersion in it is a precondition: Conflict when it is no longer that. */
  patchMerge<T extends KubeObject>(
    kind: ResourceKind<T>,
    ref: Ref,
    patch: object,
    options: CallOptions & { subresource?: "status" } = {},
  ): Promise<T> {
    const { subresource, ...call } = options;
    return this.#object<T>({
      ...aimed("patch", kind, ref, subresource),
      ...call,
      method: "PATCH",
      query: { fieldManager: this.fieldManager },
      body: patch,
      contentType: "application/merge-patch+json",
      idempotent: true,
    });
  }

  /** JSON patch (RFC 6902). Not retried where the server may have done it: "add to a list" twice is not once. */
  patchJson<T extends KubeObject>(
    kind: ResourceKind<T>,
    ref: Ref,
    operations: { op: "add" | "remove" | "replace" | "test"; path: string; value?: unknown }[],
    options: CallOptions & { subresource?: "status" } = {},
  ): Promise<T> {
    const { subresource, ...call } = options;
    return this.#object<T>({
      ...aimed("patch", kind, ref, subresource),
      ...call,
      method: "PATCH",
      query: { fieldManager: this.fieldManager },
      body: operations,
      contentType: "application/json-patch+json",
      idempotent: false,
    });
  }

  /** @returns false when there was nothing to delete */
  async delete(kind: ResourceKind<KubeObject>, ref: Ref, options: DeleteOptions = {}): Promise<boolean> {
    const { propagationPolicy = "Background", gracePeriodSeconds, preconditions, ...call } = options;
    try {
      await this.#json({
        ...aimed("delete", kind, ref),
        ...call,
        method: "DELETE",
        body: { apiVersion: "v1", kind: "DeleteOptions", propagationPolicy, gracePeriodSeconds, preconditions },
        contentType: "application/json",
        idempotent: true,
      });
      return true;
    } catch (error) {
      if (isKubeFault(error, "NotFound")) return false;
      throw error;
    }
  }

  podLogs(namespace: string, pod: string, options: LogOptions = {}): Promise<string> {
    const { container, tailLines, limitBytes = 64 << 10, ...call } = options;
    return this.#text({
      ...call,
      method: "GET",
      path: objectPath({ apiVersion: "v1", plural: "pods" }, { namespace, name: pod }, "log"),
      query: { container, tailLines, limitBytes },
      what: `logs of pod ${namespace}/${pod}`,
      idempotent: true,
    });
  }

  /** One watch, until the server ends it; ERROR events and silence are thrown as faults (watch.ts). Not retried. */
  watch<T extends KubeObject>(kind: ResourceKind<T>, options: WatchOptions): AsyncGenerator<WatchEvent<T>> {
    return watchEvents(this.#connection, kind, options);
  }

  /** Any GET of the API server, such as "/version" or "/readyz". */
  getText(path: string, options: CallOptions = {}): Promise<string> {
    return this.#text({ ...options, method: "GET", path, what: `get ${path}`, idempotent: true });
  }

  close(): void {
    this.#connection.close();
  }

  #apply<T extends KubeObject>(
    kind: ResourceKind<T>,
    object: Draft<T>,
    subresource: "status" | undefined,
    { fieldManager = this.fieldManager, force = true, ...call }: ApplyOptions,
  ): Promise<T> {
    const { name = "", namespace } = object.metadata;
    const ref = namespace ? { name, namespace } : { name };
    return this.#object<T>({
      ...aimed("apply", kind, ref, subresource),
      ...call,
      method: "PATCH",
      query: { fieldManager, force },
      body: { ...object, metadata: withoutServerFields(object.metadata), ...identity(kind) },
      contentType: "application/apply-patch+yaml",
      idempotent: true,
    });
  }

  async #pages<T extends KubeObject>(
    kind: ResourceKind<T>,
    { namespace, labelSelector, fieldSelector, pageSize: _, ...call }: ListOptions,
    limit: number | undefined,
  ): Promise<ObjectList<T>> {
    const items: T[] = [];
    for (let token: string | undefined; ; ) {
      const page: ListPage<T> = await this.#json({
        ...call,
        method: "GET",
        path: collectionPath(kind, namespace),
        query: { labelSelector, fieldSelector, limit, continue: token },
        what: `list ${kind.plural}`,
        isSecret: kind.kind === "Secret",
        idempotent: true,
      });
      // Items of a list come without apiVersion and kind.
      for (const item of page.items ?? []) items.push(Object.assign(item, identity(kind)));
      token = page.metadata.continue;
      if (!token) return { items, resourceVersion: page.metadata.resourceVersion };
    }
  }

  #object<T extends KubeObject>(call: Call): Promise<T> {
    return this.#json<T>(call);
  }

  async #json<A>(call: Call): Promise<A> {
    const text = await this.#text({ ...call });
    try {
      return JSON.parse(text) as A;
    } catch {
      throw new KubeFault("Unexpected", `${call.what}: the answer is no JSON`);
    }
  }

  async #text(call: Call): Promise<string> {
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
      if (status >= 200 && status < 300) return body;
      const retryAfter = answer.headers["retry-after"];
      throw faultOfAnswer(call.what, status, body, { retryAfter, secret: call.isSecret ?? false });
    } finally {
      this.#metrics?.answered(call.method, code, (performance.now() - startedAt) / 1000);
    }
  }
}

type ListPage<T> = { items?: T[]; metadata: { resourceVersion: string; continue?: string } };

function identity(kind: ResourceKind<KubeObject>): { apiVersion: string; kind: string } {
  return { apiVersion: kind.apiVersion, kind: kind.kind };
}

function aimed(
  verb: string,
  kind: ResourceKind<KubeObject>,
  ref: Ref,
  subresource?: string,
): Pick<Call, "path" | "what" | "isSecret"> {
  return {
    path: objectPath(kind, ref, subresource),
    what: `${verb} ${kind.plural}${subresource ? `/${subresource}` : ""} ${ref.namespace ? `${ref.namespace}/` : ""}${ref.name}`,
    isSecret: kind.kind === "Secret",
  };
}

/** A whole object that was read may be applied again; the server refuses managedFields, and a resourceVersion would be a precondition nobody meant. */
function withoutServerFields(metadata: object): object {
  const {
    managedFields: _m,
    resourceVersion: _r,
    uid: _u,
    creationTimestamp: _c,
    generation: _g,
    ...rest
  } = metadata as Record<string, unknown>;
  return rest;
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
