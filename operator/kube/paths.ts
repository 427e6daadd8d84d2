/** URLs of the Kubernetes API. */
import type { Ref, ResourceKind } from "./objects.ts";

export type Query = Record<string, string | number | boolean | undefined>;

export function collectionPath(kind: Pick<ResourceKind, "apiVersion" | "plural">, namespace?: string): string {
  const root = kind.apiVersion.includes("/") ? `/apis/${kind.apiVersion}` : `/api/${kind.apiVersion}`;
  return namespace ? `${root}/namespaces/${encodeURIComponent(namespace)}/${kind.plural}` : `${root}/${kind.plural}`;
}

export function objectPath(kind: Pick<ResourceKind, "apiVersion" | "plural">, ref: Ref, subresource?: string): string {
  // An empty name would turn "delete this one" into "delete the collection".
  if (!ref.name) throw new TypeError(`${kind.plural}: an object needs a name`);
  const path = `${collectionPath(kind, ref.namespace)}/${encodeURIComponent(ref.name)}`;
  return subresource ? `${path}/${subresource}` : path;
}

export function withQuery(path: string, query: Query): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== undefined) parameters.set(name, String(value));
  const text = parameters.toString();
  return text ? `${path}?${text}` : path;
}
