/**
 * `rondo invite NAME`: a one-time join token for a Participant, and with it everything its agent must know before it connects.
 * Holds: the cluster gets the token's SHA-256 only; the token itself is printed once and kept nowhere.
 */
import { createHash, randomBytes } from "node:crypto";
import { stringify } from "yaml";
import { JOIN_TOKEN_EXPIRES_ANNOTATION, JOIN_TOKEN_HASH_ANNOTATION } from "../api/participant.ts";
import { durationMs } from "../api/quantities.ts";
import { TRUST_CONFIG_MAP } from "../controllers/keys.ts";
import { KubeClient } from "../kube/client.ts";
import { defaultCredentials } from "../kube/credentials.ts";
import { CONFIG_MAPS, PARTICIPANTS } from "../kube/resources.ts";
import { type Invitation, invitationSchema } from "../transport/invitation.ts";

const FIELD_MANAGER = "rondo-invite";

/** A person waits for it, perhaps in front of an API server that is under load. */
const TIMEOUT_MS = 60_000;

export interface InviteOptions {
  namespace?: string;
  ttl: string;
  output: string;
  kubeconfig?: string;
}

export async function run(name: string, options: InviteOptions): Promise<void> {
  if (options.output !== "json" && options.output !== "values")
    throw new Error(`-o ${options.output}: write json or values`);
  const credentials = defaultCredentials(process.env, options.kubeconfig);
  const client = new KubeClient({ credentials, fieldManager: FIELD_MANAGER, timeoutMs: TIMEOUT_MS });
  try {
    const namespace = options.namespace ?? (await client.namespace()) ?? "default";
    const invitation = await invite(client, { name, namespace, ttlMs: durationMs(options.ttl), nowMs: Date.now() });
    process.stdout.write(
      options.output === "json" ? `${JSON.stringify(invitation, null, 2)}\n` : stringify({ invitation }),
    );
  } finally {
    client.close();
  }
}

/** @throws Error when the operator has not published its trust data yet; KubeFault */
export async function invite(
  client: KubeClient,
  { name, namespace, ttlMs, nowMs }: { name: string; namespace: string; ttlMs: number; nowMs: number },
): Promise<Invitation> {
  const trust = (await client.get(CONFIG_MAPS, { namespace, name: TRUST_CONFIG_MAP }))?.data;
  if (!trust)
    throw new Error(
      `namespace ${namespace} has no ConfigMap ${TRUST_CONFIG_MAP}; the operator writes it when it starts`,
    );
  const token = randomBytes(32);
  const invitation = invitationSchema.parse({
    schema: 1,
    endpoint: trust.endpoint,
    enrolmentEndpoint: trust["enrolment-endpoint"],
    ca: trust["ca.crt"],
    planKey: trust["plan-key"],
    trustDomain: trust["trust-domain"],
    namespace,
    participant: name,
    joinToken: token.toString("base64"),
  });
  const annotations = {
    [JOIN_TOKEN_HASH_ANNOTATION]: createHash("sha256").update(token).digest("hex"),
    [JOIN_TOKEN_EXPIRES_ANNOTATION]: new Date(nowMs + ttlMs).toISOString(),
  };
  // A manager of its own: under the one of whoever wrote labels or spec, they would be taken away.
  await client.apply(PARTICIPANTS, { metadata: { name, namespace, annotations } }, { fieldManager: FIELD_MANAGER });
  return invitation;
}
