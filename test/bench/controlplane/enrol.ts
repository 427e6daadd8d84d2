/**
 * Sites that are enrolled without having asked: identity and certificate are made here, with the operator's own authority, and written where an
 * enrolment would have left them. Nothing that comes after it knows the difference.
 */
import { X509Certificate } from "node:crypto";
import { invite } from "../../../operator/cli/invite.ts";
import { KEYS_SECRET } from "../../../operator/controllers/keys.ts";
import { PARTICIPANTS, SECRETS } from "../../../operator/kube/resources.ts";
import { type Authority, issueAgentCertificate, loadAuthority } from "../../../operator/transport/certificates.ts";
import type { Credential } from "../../../operator/transport/credential.ts";
import { generateIdentity, rawPrivateKey, rawPublicKey } from "../../../operator/transport/identity.ts";
import type { Invitation } from "../../../operator/transport/invitation.ts";
import { createSigningRequest } from "../../../operator/transport/signing-request.ts";
import { type Place, TRUST_DOMAIN } from "../programs.ts";

const INVITED_MS = 3_600_000;

export interface EnrolledSite {
  invitation: Invitation;
  /** Base64: 32 bytes of an Ed25519 private key. */
  identity: string;
  credential: Credential;
}

export async function authorityOf({ api, namespace }: Place): Promise<Authority> {
  const data = (await api.client.get(SECRETS, { namespace, name: KEYS_SECRET }))?.data ?? {};
  const text = (key: string) => Buffer.from(data[key] ?? "", "base64").toString("utf8");
  return loadAuthority({ certificatePem: text("ca.crt"), privateKeyPem: text("ca.key") });
}

export async function enrolSite({ api, namespace }: Place, authority: Authority, name: string): Promise<EnrolledSite> {
  const nowMs = Date.now();
  const { privateKey } = generateIdentity();
  const identity = rawPublicKey(privateKey);
  await api.client.create(PARTICIPANTS, {
    metadata: { name, namespace, labels: { bench: "yes" } },
    spec: { enrolment: 1, identity: { ed25519: Buffer.from(identity).toString("base64"), enrolment: 1 } },
  });
  const invitation = await invite(api.client, { name, namespace, ttlMs: INVITED_MS, nowMs });
  const { csr, privateKeyPem } = await createSigningRequest();
  const realm = { trustDomain: TRUST_DOMAIN, namespace };
  const issued = await issueAgentCertificate(authority, { csr, identity, participant: name, realm, nowMs });
  const certificatePem = new X509Certificate(issued.certificate).toString();
  const expiresAtMs = issued.notAfterMs;
  return {
    invitation,
    identity: Buffer.from(rawPrivateKey(privateKey)).toString("base64"),
    credential: { certificatePem, privateKeyPem, renewAtMs: expiresAtMs - INVITED_MS, expiresAtMs },
  };
}
