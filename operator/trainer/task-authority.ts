/**
 * The certificate authority that trainers trust: one per agent (or operator), made at the first start and kept in the data directory, so
 * that trainers started before a restart go on trusting the server after it.
 * Holds: the key never leaves `directory` (0600); a serving certificate names the addresses trainers dial and lives for days, in memory only.
 * Does not: say who may ask (task-server.ts does, by token).
 */
import "reflect-metadata";
import { randomBytes, webcrypto } from "node:crypto";
import { mkdir, open, readFile, rename } from "node:fs/promises";
import { isIP } from "node:net";
import { join } from "node:path";
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
const HOUR_MS = 3_600_000;
const AUTHORITY_MS = 10 * 365 * 24 * HOUR_MS;
/** Longer than any training deadline is wide of a renewal: the server takes a fresh one at half of it. */
export const SERVING_MS = 7 * 24 * HOUR_MS;

export interface TaskAuthority {
  caPem: string;
  /** @param hosts  IP addresses and DNS names, at least one */
  issue(hosts: string[], nowMs: number): Promise<{ certPem: string; keyPem: string }>;
}

export async function openTaskAuthority(directory: string, nowMs: number): Promise<TaskAuthority> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const file = join(directory, "authority.json");
  const kept = await readKept(file);
  const { caPem, keyPem } = kept ?? (await makeAuthority(file, nowMs));
  const key = await webcrypto.subtle.importKey("pkcs8", PemConverter.decode(keyPem)[0]!, ALGORITHM, false, ["sign"]);
  const issuer = new X509Certificate(caPem);
  return { caPem, issue: (hosts, now) => issueServing({ key, issuer, hosts, nowMs: now }) };
}

async function readKept(file: string): Promise<{ caPem: string; keyPem: string } | undefined> {
  try {
    return JSON.parse(await readFile(file, "utf8")) as { caPem: string; keyPem: string };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

async function makeAuthority(file: string, nowMs: number): Promise<{ caPem: string; keyPem: string }> {
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const name = `CN=rondo-tasks-${randomBytes(6).toString("hex")}`;
  const certificate = await X509CertificateGenerator.create(
    {
      serialNumber: serialNumber(),
      subject: name,
      issuer: name,
      notBefore: new Date(nowMs - HOUR_MS),
      notAfter: new Date(nowMs + AUTHORITY_MS),
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
  const kept = { caPem: certificate.toString("pem"), keyPem: await privatePem(keys.privateKey) };
  const part = await open(`${file}.part`, "w", 0o600);
  await part.writeFile(JSON.stringify(kept));
  await part.sync();
  await part.close();
  await rename(`${file}.part`, file);
  return kept;
}

async function issueServing(wish: {
  key: webcrypto.CryptoKey;
  issuer: X509Certificate;
  hosts: string[];
  nowMs: number;
}) {
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const certificate = await X509CertificateGenerator.create(
    {
      serialNumber: serialNumber(),
      subject: "CN=rondo-tasks",
      issuer: wish.issuer.subject,
      notBefore: new Date(wish.nowMs - HOUR_MS),
      notAfter: new Date(wish.nowMs + SERVING_MS),
      publicKey: keys.publicKey,
      signingKey: wish.key,
      signingAlgorithm: ALGORITHM,
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
        new ExtendedKeyUsageExtension(["1.3.6.1.5.5.7.3.1"]), // serverAuth
        // Python 3.13 and later refuse a chain without key identifiers (VERIFY_X509_STRICT).
        await AuthorityKeyIdentifierExtension.create(wish.issuer, false, webcrypto as never),
        await SubjectKeyIdentifierExtension.create(keys.publicKey, false, webcrypto as never),
        new SubjectAlternativeNameExtension(wish.hosts.map((value) => ({ type: isIP(value) ? "ip" : "dns", value }))),
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
