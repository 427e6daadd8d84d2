import { X509Certificate } from "node:crypto";
import { beforeAll, expect, test } from "vitest";
import { certificateHolder, operatorServerName, serverNameFor } from "./certificate-names.ts";
import {
  type Authority,
  type AuthorityPem,
  createAuthority,
  issueAgentCertificate,
  issueServerCertificate,
  loadAuthority,
} from "./certificates.ts";
import { generateIdentity, identityFingerprint, rawPublicKey } from "./identity.ts";
import { createSigningRequest } from "./signing-request.ts";

const realm = { trustDomain: "demo.rondo.dev", namespace: "rondo" };
const nowMs = Date.UTC(2026, 10, 24, 12);
const identity = rawPublicKey(generateIdentity().publicKey);
const HOUR_MS = 3_600_000;

let pem: AuthorityPem;
let authority: Authority;
beforeAll(async () => {
  pem = await createAuthority({ trustDomain: realm.trustDomain, nowMs });
  authority = await loadAuthority(pem);
});

async function agentCertificate(participant = "clinic-a") {
  const { csr, privateKeyPem } = await createSigningRequest();
  const issued = await issueAgentCertificate(authority, { csr, identity, participant, realm, nowMs });
  return { ...issued, x509: new X509Certificate(issued.certificate), privateKeyPem };
}

test("an agent's certificate is for a client, names its participant and identity, and lives from an hour back for a day", async () => {
  const { x509, certificate, notAfterMs } = await agentCertificate();
  expect(x509.verify(new X509Certificate(pem.certificatePem).publicKey)).toBe(true);
  expect(x509.subjectAltName).toBe("URI:spiffe://demo.rondo.dev/ns/rondo/participant/clinic-a");
  expect(x509.keyUsage).toEqual(["1.3.6.1.5.5.7.3.2"]);
  expect(x509.ca).toBe(false);
  expect(x509.validFromDate.getTime()).toBe(nowMs - HOUR_MS);
  expect(notAfterMs).toBe(nowMs + 24 * HOUR_MS);
  expect(certificateHolder(certificate, realm)).toEqual({
    participant: "clinic-a",
    identityFingerprint: identityFingerprint(identity),
    notAfterMs,
  });
});

test("a certificate of another trust domain or namespace is nobody's here", async () => {
  const { certificate } = await agentCertificate();
  expect(certificateHolder(certificate, { ...realm, namespace: "other" })).toBeUndefined();
  expect(certificateHolder(certificate, { ...realm, trustDomain: "rondo.dev" })).toBeUndefined();
  expect(certificateHolder(certificate, { ...realm, namespace: "ron" })).toBeUndefined();
});

test.each(["a/b", "a, DNS:evil", "", "..", "A"])(
  "a certificate for the participant %j is nobody's",
  async (participant) => {
    const { certificate } = await agentCertificate(participant);
    expect(certificateHolder(certificate, realm)).toBeUndefined();
  },
);

test("a server's certificate is for a server, is nobody's, and carries the operator's own name beside its hosts", async () => {
  const { certificatePem } = await issueServerCertificate(authority, {
    trustDomain: realm.trustDomain,
    hosts: ["10.77.0.10", "rondo.example.org"],
    nowMs,
  });
  const x509 = new X509Certificate(certificatePem);
  expect(x509.checkHost(operatorServerName(realm))).toBeDefined();
  expect(x509.checkHost("rondo.example.org")).toBeDefined();
  expect(x509.checkIP("10.77.0.10")).toBeDefined();
  expect(x509.keyUsage).toEqual(["1.3.6.1.5.5.7.3.1"]);
  expect(certificateHolder(x509.raw, realm)).toBeUndefined();
});

test.each([
  { endpoint: "10.77.0.10:30443", name: "rondo-operator.demo.rondo.dev" },
  { endpoint: "[fd00::1]:8443", name: "rondo-operator.demo.rondo.dev" },
  { endpoint: "rondo.example.org:443", name: undefined },
])("at $endpoint the server must prove the name $name", ({ endpoint, name }) => {
  expect(serverNameFor(endpoint, realm)).toBe(name);
});

test("a signing request for another kind of key, or changed after it was signed, is refused", async () => {
  const { csr } = await createSigningRequest();
  const changed = Buffer.from(csr);
  changed[changed.length - 1]! ^= 1;
  const refused = issueAgentCertificate(authority, { csr: changed, identity, participant: "clinic-a", realm, nowMs });
  await expect(refused).rejects.toMatchObject({ code: "MessageInvalid" });
});
