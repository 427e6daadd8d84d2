/**
 * The shapes every Kubernetes object shares, as they are on the wire: raw JSON, timestamps as strings.
 * Does not: validate. Custom resources are parsed with the zod schemas of operator/api by whoever decides on them.
 */
export type OwnerReference = {
  apiVersion: string;
  kind: string;
  name: string;
  uid: string;
  controller?: boolean;
  blockOwnerDeletion?: boolean;
};

export type ObjectMeta = {
  name: string;
  namespace?: string;
  generateName?: string;
  uid?: string;
  resourceVersion?: string;
  generation?: number;
  creationTimestamp?: string;
  deletionTimestamp?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  finalizers?: string[];
  ownerReferences?: OwnerReference[];
};

export type KubeObject = { apiVersion: string; kind: string; metadata: ObjectMeta };

/** An object of which only the common part is known. */
export type RawObject = KubeObject & { [field: string]: unknown };

/** Where an object is. Any object's `metadata` is one, so `client.delete(JOBS, job.metadata)` reads well. */
export type Ref = { namespace?: string; name: string };

/** What a kind is called; `T` is only there for the compiler. */
export type ResourceKind<T extends KubeObject = RawObject> = {
  readonly apiVersion: string;
  readonly kind: string;
  readonly plural: string;
  readonly type?: T;
};

type DeepPartial<T> = T extends readonly (infer U)[]
  ? DeepPartial<U>[]
  : T extends object
    ? { [K in keyof T]?: DeepPartial<T[K]> }
    : T;

/** An object as one writes it: any part of it, but with metadata; apiVersion and kind are filled in. */
export type Draft<T extends KubeObject> = Omit<DeepPartial<T>, "metadata"> & { metadata: Partial<ObjectMeta> };

/** "namespace/name", or "name" for a cluster-scoped object: the key of caches and work queues. */
export function keyOf(object: { metadata: Ref }): string {
  return refKey(object.metadata);
}

export function refKey(ref: Ref): string {
  return ref.namespace ? `${ref.namespace}/${ref.name}` : ref.name;
}

export function parseKey(key: string): Ref {
  const slash = key.indexOf("/");
  return slash < 0 ? { name: key } : { namespace: key.slice(0, slash), name: key.slice(slash + 1) };
}

/** The reference that makes `owner` the controller of another object in the same cluster and namespace. */
export function controllerReference(owner: KubeObject): OwnerReference {
  const { name, uid } = owner.metadata;
  if (!uid) throw new TypeError(`${owner.kind} ${name} has no uid yet: it can own nothing before it is created`);
  return { apiVersion: owner.apiVersion, kind: owner.kind, name, uid, controller: true, blockOwnerDeletion: true };
}
