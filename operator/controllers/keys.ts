/**
 * The operator's keys: certificate authority and plan key, made on the first start and kept in Secret rondo-operator-keys;
 * what others must know of them is in ConfigMap rondo-trust, which `rondo invite` reads.
 * Holds: keys are made once: of two first starts the one that created the Secret wins. A Secret that is broken is never replaced,
 *   because every invitation and every agent hangs on it.
 */
import type { KeyObject } from "node:crypto";
import type { KubeClient } from "../kube/client.ts";
import { isKubeFault } from "../kube/faults.ts";
import { CONFIG_MAPS, SECRETS, type Secret } from "../kube/resources.ts";
import { type Authority, createAuthority, loadAuthority } from "../transport/certificates.ts";
import { generateIdentity, privateKeyFromRaw, rawPrivateKey, rawPublicKey } from "../transport/identity.ts";
import type { OperatorConfig } from "./config.ts";

export const KEYS_SECRET = "rondo-operator-keys";
export const TRUST_CONFIG_MAP = "rondo-trust";
const LABELS = { "app.kubernetes.io/managed-by": "rondo" };

export interface OperatorKeys {
  authority: Authority;
  planKey: KeyObject;
}

export async function openKeys(client: KubeClient, config: OperatorConfig, nowMs: number): Promise<OperatorKeys> {
  const ref = { namespace: config.namespace, name: KEYS_SECRET };
  const secret = (await client.get(SECRETS, ref)) ?? (await createKeys(client, config, nowMs));
  const part = (key: string) => {
    const value = secret.data?.[key];
    if (!value) throw new Error(`Secret ${KEYS_SECRET} has no ${key}; restore it from a backup`);
    return Buffer.from(value, "base64");
  };
  const authority = await loadAuthority({
    certificatePem: part("ca.crt").toString("utf8"),
    privateKeyPem: part("ca.key").toString("utf8"),
  });
  return { authority, planKey: privateKeyFromRaw(part("plan.key")) };
}

async function createKeys(client: KubeClient, config: OperatorConfig, nowMs: number): Promise<Secret> {
  const { certificatePem, privateKeyPem } = await createAuthority({ trustDomain: config.trustDomain, nowMs });
  const ref = { namespace: config.namespace, name: KEYS_SECRET };
  const data = {
    "ca.crt": Buffer.from(certificatePem).toString("base64"),
    "ca.key": Buffer.from(privateKeyPem).toString("base64"),
    "plan.key": Buffer.from(rawPrivateKey(generateIdentity().privateKey)).toString("base64"),
  };
  try {
    return await client.create(SECRETS, { metadata: { ...ref, labels: LABELS }, type: "Opaque", data });
  } catch (error) {
    const other = isKubeFault(error, "AlreadyExists") ? await client.get(SECRETS, ref) : undefined;
    if (!other) throw error;
    return other;
  }
}

export async function publishTrust(client: KubeClient, config: OperatorConfig, keys: OperatorKeys): Promise<void> {
  await client.apply(CONFIG_MAPS, {
    metadata: { namespace: config.namespace, name: TRUST_CONFIG_MAP, labels: LABELS },
    data: {
      "ca.crt": keys.authority.certificatePem,
      "plan-key": Buffer.from(rawPublicKey(keys.planKey)).toString("base64"),
      "trust-domain": config.trustDomain,
      endpoint: config.agents.endpoint,
      "enrolment-endpoint": config.enrolment.endpoint,
    },
  });
}
