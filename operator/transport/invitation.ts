/**
 * The invitation (protocol.md): everything that an agent must know before its first connection, brought by a person.
 * Holds: trust anchors come from here, never from the connection that they protect. The join token in it is a secret.
 */
import { X509Certificate } from "node:crypto";
import { z } from "zod";

const key32 = z.string().regex(/^[A-Za-z0-9+/]{43}=$/, "is not 32 bytes in base64");
const endpoint = z
  .string()
  .max(300)
  .regex(/^([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):[0-9]{1,5}$/, "is not host:port");
const dnsName = z
  .string()
  .max(253)
  .regex(/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/, "is not a DNS name");

export const invitationSchema = z.strictObject({
  schema: z.literal(1),
  /** Of the Coordination service. */
  endpoint,
  enrolmentEndpoint: endpoint,
  /** The operator's CA certificate, PEM. */
  ca: z.string().max(8192).refine(isCertificate, "is not a certificate in PEM"),
  /** Ed25519 public key that signs plans, cancellations and receipts. */
  planKey: key32,
  trustDomain: dnsName,
  namespace: dnsName,
  participant: dnsName,
  joinToken: key32,
});

export type Invitation = z.infer<typeof invitationSchema>;

function isCertificate(pem: string): boolean {
  try {
    return new X509Certificate(pem).ca;
  } catch {
    return false;
  }
}
