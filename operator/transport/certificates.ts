/**
 * The operator's own certificate authority (P-256): its certificate, the servers', and the agents' (protocol.md "Identity").
 * Holds: an agent's certificate takes the key of its signing request and nothing else from it; notBefore lies an hour back, because
 * clocks differ; the names are those of certificate-names.ts.
 * Does not: decide who gets one (enrolment.ts) or keep keys (the caller does).
 */
import "reflect-metadata";
import { randomBytes, webcrypto } from "node:crypto";
import { isIP } from "node:net";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type Extension,
  type JsonGeneralNames,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  Pkcs10CertificateRequest,
  type PublicKey,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";
import { operatorServerName, participantUri, type Realm } from "./certificate-names.ts";
import { TransportFault } from "./faults.ts";
import { identityFingerprint } from "./identity.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** Ten years: agents pin it by their invitation, and a new authority means new invitations. */
const AUTHORITY_LIFE_MS = 3650 * DAY_MS;
/** protocol.md: default life 24 h. */
export const AGENT_CERTIFICATE_LIFE_MS = DAY_MS;
export const SERVER_CERTIFICATE_LIFE_MS = 7 * DAY_MS;
/** A request with a P-256 key and no attributes has about 250 bytes. */
const MOST_REQUEST_BYTES = 4096;

const P256 = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;

export interface AuthorityPem {
  certificatePem: string;
  privateKeyPem: string;
}

export interface Authority {
  certificatePem: string;
  certificate: X509Certificate;
  privateKey: webcrypto.CryptoKey;
}

/** A new authority, for the operator's first start. */
export async function createAuthority({
  trustDomain,
  nowMs,
}: {
  trustDomain: string;
  nowMs: number;
}): Promise<AuthorityPem> {
  const keys = await generateKeys();
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: randomSerial(),
    name: [{ O: ["Rondo"] }, { CN: [`Rondo operator CA ${trustDomain}`.slice(0, 64)] }],
    notBefore: new Date(nowMs - HOUR_MS),
    notAfter: new Date(nowMs + AUTHORITY_LIFE_MS),
    signingAlgorithm: P256,
    keys,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificatePem: certificate.toString("pem"), privateKeyPem: await privatePem(keys.privateKey) };
}

export async function loadAuthority({ certificatePem, privateKeyPem }: AuthorityPem): Promise<Authority> {
  const privateKey = await webcrypto.subtle.importKey("pkcs8", PemConverter.decodeFirst(privateKeyPem), P256, false, [
    "sign",
  ]);
  return { certificatePem, certificate: new X509Certificate(certificatePem), privateKey };
}

export interface ServerCertificate {
  certificatePem: string;
  privateKeyPem: string;
  notAfterMs: number;
}

/** @param hosts  DNS names and IP addresses under which agents dial; operatorServerName() is added */
export async function issueServerCertificate(
  authority: Authority,
  {
    trustDomain,
    hosts,
    nowMs,
    lifeMs = SERVER_CERTIFICATE_LIFE_MS,
  }: { trustDomain: string; hosts: string[]; nowMs: number; lifeMs?: number },
): Promise<ServerCertificate> {
  const keys = await generateKeys();
  const name = operatorServerName({ trustDomain });
  const names: JsonGeneralNames = [...new Set([name, ...hosts])].map((value) => ({
    type: isIP(value) ? "ip" : "dns",
    value,
  }));
  const certificate = await issue(authority, {
    publicKey: keys.publicKey,
    subject: [{ CN: [name.slice(0, 64)] }],
    names,
    usage: ExtendedKeyUsage.serverAuth,
    nowMs,
    lifeMs,
  });
  return {
    certificatePem: certificate.toString("pem"),
    privateKeyPem: await privatePem(keys.privateKey),
    notAfterMs: certificate.notAfter.getTime(),
  };
}

/**
 * The certificate of an agent that has proved its identity.
 * @param csr       PKCS #10, DER
 * @param identity  Ed25519, 32 bytes: the certificate counts only while the Participant has this one
 * @throws TransportFault "MessageInvalid" for a request that is too long, not self-signed, or has no P-256 key
 */
export async function issueAgentCertificate(
  authority: Authority,
  { csr, identity, participant, realm, nowMs, lifeMs = AGENT_CERTIFICATE_LIFE_MS }: AgentCertificateRequest,
): Promise<{ certificate: Uint8Array; notAfterMs: number }> {
  const publicKey = await requestedKey(csr);
  const certificate = await issue(authority, {
    publicKey,
    subject: [{ CN: [participant.slice(0, 64)] }, { "2.5.4.5": [identityFingerprint(identity)] }],
    names: [{ type: "url", value: participantUri(realm, participant) }],
    usage: ExtendedKeyUsage.clientAuth,
    nowMs,
    lifeMs,
  });
  return { certificate: new Uint8Array(certificate.rawData), notAfterMs: certificate.notAfter.getTime() };
}

export interface AgentCertificateRequest {
  csr: Uint8Array;
  identity: Uint8Array;
  participant: string;
  realm: Realm;
  nowMs: number;
  lifeMs?: number;
}

async function requestedKey(csr: Uint8Array): Promise<PublicKey> {
  const refused = new TransportFault(
    "MessageInvalid",
    "The certificate signing request is not a valid one for a P-256 key",
  );
  if (csr.length > MOST_REQUEST_BYTES) throw refused;
  try {
    const request = new Pkcs10CertificateRequest(new Uint8Array(csr));
    const { name, namedCurve } = request.publicKey.algorithm as webcrypto.EcKeyAlgorithm;
    if (name !== "ECDSA" || namedCurve !== "P-256" || !(await request.verify())) throw refused;
    return request.publicKey;
  } catch {
    throw refused;
  }
}

interface Leaf {
  publicKey: webcrypto.CryptoKey | PublicKey;
  subject: Array<Record<string, string[]>>;
  names: JsonGeneralNames;
  usage: ExtendedKeyUsage;
  nowMs: number;
  lifeMs: number;
}

async function issue(authority: Authority, leaf: Leaf): Promise<X509Certificate> {
  const extensions: Extension[] = [
    new BasicConstraintsExtension(false, undefined, true),
    new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
    new ExtendedKeyUsageExtension([leaf.usage]),
    new SubjectAlternativeNameExtension(leaf.names),
    await AuthorityKeyIdentifierExtension.create(authority.certificate.publicKey),
    await SubjectKeyIdentifierExtension.create(leaf.publicKey),
  ];
  return X509CertificateGenerator.create({
    serialNumber: randomSerial(),
    subject: leaf.subject,
    issuer: authority.certificate.subjectName,
    notBefore: new Date(leaf.nowMs - HOUR_MS),
    notAfter: new Date(leaf.nowMs + leaf.lifeMs),
    signingAlgorithm: P256,
    publicKey: leaf.publicKey,
    signingKey: authority.privateKey,
    extensions,
  });
}

function generateKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(P256, true, ["sign", "verify"]);
}

async function privatePem(key: webcrypto.CryptoKey): Promise<string> {
  return PemConverter.encode(await webcrypto.subtle.exportKey("pkcs8", key), PemConverter.PrivateKeyTag);
}

/** 128 bits from the generator, positive as RFC 5280 §4.1.2.2 wants it. */
function randomSerial(): string {
  const serial = randomBytes(16);
  serial[0] = (serial[0]! & 0x7f) | 0x40;
  return serial.toString("hex");
}
