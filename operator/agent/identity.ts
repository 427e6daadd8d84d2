/**
 * This participant's identity: an Ed25519 key in a Secret of the site, made at the first start.
 * Holds: an identity that exists is never replaced; of two agents that start at once, one makes it and both use it.
 * Does not: enrol it (transport/client.ts). The site may seal the Secret into its own backup; whoever has it is this participant.
 */
import { type KeyObject, sign } from "node:crypto";
import type { KubeClient } from "../kube/client.ts";
import { isKubeFault } from "../kube/faults.ts";
import { SECRETS, type Secret } from "../kube/resources.ts";
import { generateIdentity, privateKeyFromRaw, rawPrivateKey, rawPublicKey } from "../transport/identity.ts";

/** Raw 32 bytes, as RFC 8032 has them. */
const KEY_FIELD = "ed25519";

export interface Identity {
  privateKey: KeyObject;
  /** 32 bytes, base64: what a plan's roster says of this participant. */
  publicKey: string;
}

/** @throws Error when the Secret holds something else than a key */
export async function loadIdentity(
  client: KubeClient,
  at: { namespace: string; name: string },
  labels: Record<string, string> = {},
): Promise<Identity> {
  const found = await client.get(SECRETS, at);
  if (found?.data?.[KEY_FIELD]) return identityOf(found, at);
  const data = { [KEY_FIELD]: Buffer.from(rawPrivateKey(generateIdentity().privateKey)).toString("base64") };
  try {
    if (found) return identityOf(await fill(client, found, data), at);
    // No owner: a site that reinstalls its agent stays the participant it was.
    return identityOf(await client.create(SECRETS, { metadata: { ...at, labels }, type: "Opaque", data }), at);
  } catch (error) {
    if (!isKubeFault(error, "AlreadyExists", "Conflict")) throw error;
    const other = await client.get(SECRETS, at);
    if (!other) throw error;
    return identityOf(other, at);
  }
}

const SIGNED_PREFIX = Buffer.from("rondo/");

/** Ed25519 by this identity, over nothing but what begins with `rondo/` (secure-aggregation.md §1). @throws RangeError for anything else */
export function signer(privateKey: KeyObject): (bytes: Uint8Array) => Uint8Array {
  return (bytes) => {
    if (Buffer.compare(SIGNED_PREFIX, bytes.subarray(0, SIGNED_PREFIX.length)) !== 0) {
      throw new RangeError("the identity signs only what begins with rondo/");
    }
    return new Uint8Array(sign(null, bytes, privateKey));
  };
}

/** A Secret that a person or a chart made empty; its resourceVersion keeps a second agent from overwriting the first one's key. */
function fill(client: KubeClient, found: Secret, data: Record<string, string>): Promise<Secret> {
  const { resourceVersion } = found.metadata;
  return client.patchMerge(SECRETS, found.metadata, { metadata: { resourceVersion }, data });
}

function identityOf(secret: Secret, at: { namespace: string; name: string }): Identity {
  const raw = Buffer.from(secret.data?.[KEY_FIELD] ?? "", "base64");
  if (raw.length !== 32) {
    throw new Error(
      `Secret ${at.namespace}/${at.name} has no 32-byte key in ${KEY_FIELD}; restore it from a backup, or delete it and enrol anew`,
    );
  }
  const privateKey = privateKeyFromRaw(raw);
  return { privateKey, publicKey: Buffer.from(rawPublicKey(privateKey)).toString("base64") };
}
