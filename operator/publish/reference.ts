/** `registry/repository[:tag][@sha256:…]`, by the grammar of the OCI distribution specification. */
import { PublishFault } from "./fault.ts";

export interface Repository {
  /** Host and, where it is written, port. */
  registry: string;
  /** Path below the registry. */
  repository: string;
}

export interface Reference extends Repository {
  tag?: string;
  /** `sha256:<64 hex digits>`; where both stand, the digest decides. */
  digest?: string;
}

const HOST = /^(\[[0-9a-fA-F:]+\]|[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?)(:[0-9]{1,5})?$/;
const PATH = /^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$/;
const TAG = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/;
export const DIGEST = /^sha256:[0-9a-f]{64}$/;

/** @throws PublishFault "ReferenceInvalid": no registry host (there is no default one), or no valid repository */
export function parseRepository(text: string): Repository {
  const slash = text.indexOf("/");
  const registry = text.slice(0, Math.max(slash, 0));
  const repository = text.slice(slash + 1);
  // A first part without dot or port is a folder of Docker Hub to docker; we have no default registry, so it is a mistake.
  const isHost = HOST.test(registry) && (/[.:]/.test(registry) || registry === "localhost");
  if (text.length > 512 || !isHost || !PATH.test(repository)) {
    throw new PublishFault(
      "ReferenceInvalid",
      `${JSON.stringify(text.slice(0, 200))} is not a repository; write registry.example/path/name`,
    );
  }
  return { registry, repository };
}

/** @throws PublishFault "ReferenceInvalid" also when there is neither tag nor digest */
export function parseReference(text: string): Reference {
  const [beforeDigest = "", digest, ...more] = text.split("@");
  const colon = beforeDigest.lastIndexOf(":");
  const tag = colon > beforeDigest.lastIndexOf("/") ? beforeDigest.slice(colon + 1) : undefined;
  const name = parseRepository(tag === undefined ? beforeDigest : beforeDigest.slice(0, colon));
  const isPinned = digest !== undefined && DIGEST.test(digest) && more.length === 0;
  const isTagged = tag !== undefined && TAG.test(tag);
  if ((digest !== undefined && !isPinned) || (tag !== undefined && !isTagged) || (!isPinned && !isTagged)) {
    throw new PublishFault(
      "ReferenceInvalid",
      `${JSON.stringify(text.slice(0, 200))} names no version; end it with :tag or @sha256:…`,
    );
  }
  return { ...name, ...(isTagged && { tag }), ...(isPinned && { digest }) };
}
