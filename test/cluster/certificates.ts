/**
 * The certificates of one cluster: its own authority, the API server's and kubelet's serving certificates, a client certificate
 * per program with the names that Kubernetes' Node and RBAC authorisers know, and the key that signs service account tokens.
 * They live as long as the cluster's state; `down` deletes them.
 */
import "reflect-metadata";
import { webcrypto } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as x509 from "@peculiar/x509";
import type { Cluster } from "./layout.ts";

x509.cryptoProvider.set(webcrypto as unknown as typeof globalThis.crypto);

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const LIFETIME_DAYS = 3650;

/** Who asks the API server, under the user and groups that its authorisers know. */
const CLIENTS = (node: string) => ({
  admin: "CN=admin,O=system:masters",
  "kube-apiserver-kubelet-client": "CN=kube-apiserver-kubelet-client,O=system:masters",
  "kube-controller-manager": "CN=system:kube-controller-manager",
  "kube-scheduler": "CN=system:kube-scheduler",
  "kube-proxy": "CN=system:kube-proxy",
  kubelet: `CN=system:node:${node},O=system:nodes`,
});

export const SERVICE_ADDRESS = "10.96.0.1";

export function certificateDir(cluster: Cluster): string {
  return join(cluster.stateDir, "pki");
}

/** Makes them all, once; the folder appears only when it is complete. */
export async function ensureCertificates(cluster: Cluster): Promise<void> {
  const dir = certificateDir(cluster);
  if (existsSync(dir)) return;
  const draft = `${dir}.new`;
  rmSync(draft, { recursive: true, force: true });
  mkdirSync(draft, { recursive: true, mode: 0o700 });

  const authority = await makeAuthority(cluster);
  write(draft, "ca.crt", authority.certificate.toString("pem"));
  const leaf = async (file: string, subject: string, extensions: x509.Extension[]) => {
    const keys = await newKeys();
    const certificate = await x509.X509CertificateGenerator.create({
      ...validity(),
      subject,
      issuer: authority.certificate.subject,
      publicKey: keys.publicKey,
      signingKey: authority.keys.privateKey,
      signingAlgorithm: ALGORITHM,
      extensions: [new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true), ...extensions],
    });
    write(draft, `${file}.crt`, certificate.toString("pem"));
    write(draft, `${file}.key`, await privatePem(keys));
  };
  await leaf("kube-apiserver", "CN=kube-apiserver", [
    new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
    new x509.SubjectAlternativeNameExtension([
      ...[cluster.address, "127.0.0.1", SERVICE_ADDRESS].map((value) => ({ type: "ip" as const, value })),
      ...["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(dnsName),
    ]),
  ]);
  await leaf("kubelet-server", `CN=system:node:${cluster.name},O=system:nodes`, [
    new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
    new x509.SubjectAlternativeNameExtension([{ type: "ip", value: cluster.address }, dnsName(cluster.name)]),
  ]);
  for (const [file, subject] of Object.entries(CLIENTS(cluster.name))) {
    await leaf(file, subject, [new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.clientAuth])]);
  }
  const tokenKeys = await newKeys();
  write(draft, "service-accounts.key", await privatePem(tokenKeys));
  write(
    draft,
    "service-accounts.pub",
    pem("PUBLIC KEY", await webcrypto.subtle.exportKey("spki", tokenKeys.publicKey)),
  );
  renameSync(draft, dir);
}

/** A kubeconfig whose user is one of the client certificates. */
export function writeKubeconfig(cluster: Cluster, client: string, path: string): void {
  const dir = certificateDir(cluster);
  const data = (file: string) => readFileSync(join(dir, file)).toString("base64");
  const { name, address } = cluster;
  const config = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name, cluster: { server: `https://${address}:6443`, "certificate-authority-data": data("ca.crt") } }],
    users: [
      {
        name: client,
        user: { "client-certificate-data": data(`${client}.crt`), "client-key-data": data(`${client}.key`) },
      },
    ],
    contexts: [{ name, context: { cluster: name, user: client } }],
    "current-context": name,
  };
  writeFileSync(path, JSON.stringify(config, null, 2), { mode: 0o600 });
}

async function makeAuthority(cluster: Cluster) {
  const keys = await newKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    ...validity(),
    name: `CN=${cluster.scope}`,
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { keys, certificate };
}

function newKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
}

/** An hour back, so that a clock which was just set does not make a cluster unusable. */
function validity() {
  const now = Date.now();
  return { notBefore: new Date(now - 3_600_000), notAfter: new Date(now + LIFETIME_DAYS * 86_400_000) };
}

async function privatePem(keys: webcrypto.CryptoKeyPair): Promise<string> {
  return pem("PRIVATE KEY", await webcrypto.subtle.exportKey("pkcs8", keys.privateKey));
}

function pem(label: string, der: ArrayBuffer): string {
  const lines =
    Buffer.from(der)
      .toString("base64")
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`;
}

function dnsName(value: string) {
  return { type: "dns" as const, value };
}

function write(dir: string, file: string, content: string): void {
  writeFileSync(join(dir, file), content, { mode: 0o600 });
}
