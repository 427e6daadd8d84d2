/**
 * Makes the certificates of task-authority.ts. A module of its own, loaded when one is due: the certificate library takes 20 MiB of memory,
 * which an agent needs once a week.
 */
import "reflect-metadata";
import { randomBytes, webcrypto } from "node:crypto";
import { isIP } from "node:net";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
/** Clocks of one cluster's nodes may differ. */
const BACKDATED_MS = 3_600_000;

export interface Certified {
  certPem: string;
  keyPem: string;
}

export async function makeAuthority(nowMs: number, lifeMs: number): Promise<Certified> {
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const name = `CN=rondo-tasks-${randomBytes(6).toString("hex")}`;
  const certificate = await X509CertificateGenerator.create(
    {
      serialNumber: serialNumber(),
      subject: name,
      issuer: name,
      notBefore: new Date(nowMs - BACKDATED_MS),
      notAfter: new Date(nowMs + lifeMs),
      publicKey: keys.publicKey,
      signingKey: keys.privateKey,
      signingAlgorithm: ALGORITHM,
      extensions: [
        new BasicConstraintsExtension(true, 0, true),
        new KeyUsagesExtension(KeyUsageFlags.keyCertSign, true),
        await SubjectKeyIdentifierExtension.create(keys.publicKey, false, webcrypto as never),
      ],
    },
    webcrypto as never,
  );
  return { certPem: certificate.toString("pem"), keyPem: await privatePem(keys.privateKey) };
}

/** @param hosts  IP addresses and DNS names, at least one */
export async function issueServing(
  authority: Certified,
  { hosts, nowMs, lifeMs }: { hosts: readonly string[]; nowMs: number; lifeMs: number },
): Promise<Certified> {
  const issuer = new X509Certificate(authority.certPem);
  const der = PemConverter.decode(authority.keyPem)[0]!;
  const signingKey = await webcrypto.subtle.importKey("pkcs8", der, ALGORITHM, false, ["sign"]);
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const certificate = await X509CertificateGenerator.create(
    {
      serialNumber: serialNumber(),
      subject: "CN=rondo-tasks",
      issuer: issuer.subject,
      notBefore: new Date(nowMs - BACKDATED_MS),
      notAfter: new Date(nowMs + lifeMs),
      publicKey: keys.publicKey,
      signingKey,
      signingAlgorithm: ALGORITHM,
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
        new ExtendedKeyUsageExtension(["1.3.6.1.5.5.7.3.1"]), // serverAuth
        // Python 3.13 and later refuse a chain without key identifiers (VERIFY_X509_STRICT).
        await AuthorityKeyIdentifierExtension.create(issuer, false, webcrypto as never),
        await SubjectKeyIdentifierExtension.create(keys.publicKey, false, webcrypto as never),
        new SubjectAlternativeNameExtension(hosts.map((value) => ({ type: isIP(value) ? "ip" : "dns", value }))),
      ],
    },
    webcrypto as never,
  );
  return { certPem: certificate.toString("pem"), keyPem: await privatePem(keys.privateKey) };
}

async function privatePem(key: webcrypto.CryptoKey): Promise<string> {
  return PemConverter.encode(await webcrypto.subtle.exportKey("pkcs8", key), "PRIVATE KEY");
}

/** Positive, as RFC 5280 asks: the first byte stays below 0x80. */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = (bytes[0]! & 0x7f) | 0x01;
  return bytes.toString("hex");
}
