/**
 * The Kubernetes API as Rondo uses it: raw JSON objects, named faults (faults.ts), every call bounded in time.
 * Holds: a call ends within `timeoutMs`, its retries included (watches excepted: watch.ts). Writes by server-side
 *   apply carry the field manager; nothing is ever replaced as a whole.
 * Does not: cache (cache.ts), or read kubeconfigs itself (credentials.ts).
 */
import { type Call, Caller, type CallOptions } from "./call.ts";
import { Connection } from "./connection.ts";
import type { CredentialSource } from "./credentials.ts";
import { isKubeFault } from "./faults.ts";
import type { ClientMetrics } from "./metrics.ts";
import type { Draft, KubeObject, Ref, ResourceKind } from "./objects.ts";
import { collectionPath, objectPath } from "./paths.ts";
import { type WatchEvent, type WatchOptions, watchEvents } from "./watch.ts";

export type ListOptions<T = unknown> = CallOptions & {
  namespace?: string;
  labelSelector?: string;
  fieldSelector?: string;
  /** Objects per page; all pages are read. Default 500. */
  pageSize?: number;
  /** What of an object is wanted; applied page by page, so that no more than one page is ever held as it came. */
  keep?: (object: T) => T;
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

export class KubeClient {
  readonly fieldManager: string;
  readonly #connection: Connection;
  readonly #caller: Caller;

  constructor({ credentials, fieldManager, timeoutMs = 10_000, metrics }: KubeClientOptions) {
    this.fieldManager = fieldManager;
    this.#connection = new Connection(credentials);
    this.#caller = new Caller(this.#connection, timeoutMs, metrics);
  }

  /** The namespace of the ServiceAccount or of the kubeconfig's context, where there is one. */
  async namespace(): Promise<string | undefined> {
    return (await this.#connection.credentials()).namespace;
  }

  /** The object, or undefined when there is none. */
  async get<T extends KubeObject>(kind: ResourceKind<T>, ref: Ref, options: CallOptions = {}): Promise<T | undefined> {
    try {
      return await this.#caller.json<T>({ ...aimed("get", kind, ref), ...options, method: "GET", idempotent: true });
    } catch (error) {
      if (isKubeFault(error, "NotFound")) return undefined;
      throw error;
    }
  }

  /** All objects, page by page, as of one resourceVersion. Without a namespace: of all namespaces. */
  async list<T extends KubeObject>(kind: ResourceKind<T>, options: ListOptions<T> = {}): Promise<ObjectList<T>> {
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
    return this.#caller.json<T>({
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
    return this.#caller.json<T>({
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
    return this.#caller.json<T>({
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
      await this.#caller.json({
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
    return this.#caller.text({
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
    return this.#caller.text({ ...options, method: "GET", path, what: `get ${path}`, idempotent: true });
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
    return this.#caller.json<T>({
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
    { namespace, labelSelector, fieldSelector, pageSize: _, keep, ...call }: ListOptions<T>,
    limit: number | undefined,
  ): Promise<ObjectList<T>> {
    const items: T[] = [];
    for (let token: string | undefined; ; ) {
      const page: ListPage<T> = await this.#caller.json({
        ...call,
        method: "GET",
        path: collectionPath(kind, namespace),
        query: { labelSelector, fieldSelector, limit, continue: token },
        what: `list ${kind.plural}`,
        isSecret: kind.kind === "Secret",
        idempotent: true,
      });
      // Items of a list come without apiVersion and kind.
      for (const item of page.items ?? []) {
        const whole = Object.assign(item, identity(kind));
        items.push(keep ? keep(whole) : whole);
      }
      token = page.metadata.continue;
      if (!token) return { items, resourceVersion: page.metadata.resourceVersion };
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
