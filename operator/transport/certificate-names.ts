/**
 * How a certificate says whose it is (protocol.md "Identity").
 * Holds: an agent's certificate has one URI SAN, `spiffe://<trust domain>/ns/<namespace>/participant/<name>`, and in its subject the
 * serialNumber attribute (RFC 4519 §2.31) with the hex SHA-256 of the Ed25519 identity it was issued to: the URI stays a plain SPIFFE ID,
 * and a certificate of a former identity is told from one of the present.
 */
import { X509Certificate } from "node:crypto";
import { isIP } from "node:net";

export interface CertificateHolder {
  participant: string;
  /** identityFingerprint() of identity.ts */
  identityFingerprint: string;
  notAfterMs: number;
}

export interface Realm {
  trustDomain: string;
  namespace: string;
}

export function participantUri({ trustDomain, namespace }: Realm, participant: string): string {
  return `spiffe://${trustDomain}/ns/${namespace}/participant/${participant}`;
}

/**
 * A name that every server certificate of an operator carries. An agent that dials an IP address asks for it instead: an address
 * is no valid TLS server name, and behind a node port it is not the operator's own.
 */
export function operatorServerName({ trustDomain }: { trustDomain: string }): string {
  return `rondo-operator.${trustDomain}`;
}

/** The server name to ask for at `endpoint` (host:port). @returns undefined for a host name, which TLS checks by itself */
export function serverNameFor(endpoint: string, realm: { trustDomain: string }): string | undefined {
  const host = endpoint.slice(0, endpoint.lastIndexOf(":")).replace(/^\[|\]$/g, "");
  return isIP(host) ? operatorServerName(realm) : undefined;
}

/** @returns undefined unless it is an agent's certificate of this realm, by its names alone: the chain was checked by TLS */
export function certificateHolder(der: Uint8Array, realm: Realm): CertificateHolder | undefined {
  const certificate = new X509Certificate(der);
  const prefix = `URI:${participantUri(realm, "")}`;
  const names = certificate.subjectAltName ?? "";
  // One name and nothing else: a comma, a quote or a slash would be a second name or a deeper path.
  const participant = names.startsWith(prefix) ? names.slice(prefix.length) : "";
  const fingerprint = /^serialNumber=([0-9a-f]{64})$/m.exec(certificate.subject)?.[1];
  if (!/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(participant) || !fingerprint) return undefined;
  return { participant, identityFingerprint: fingerprint, notAfterMs: certificate.validToDate.getTime() };
}
