import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { connect } from "node:tls";
import { credentials, Metadata } from "@grpc/grpc-js";
import { afterEach, beforeEach, expect, test } from "vitest";
import { certificateHolder, operatorServerName } from "../../../operator/transport/certificate-names.ts";
import { issueAgentCertificate } from "../../../operator/transport/certificates.ts";
import type { Credential } from "../../../operator/transport/credential.ts";
import { enrol, renew } from "../../../operator/transport/enrol-client.ts";
import { seal } from "../../../operator/transport/envelope.ts";
import { fromServiceError } from "../../../operator/transport/faults.ts";
import { Enrolling, EnrolmentClient } from "../../../operator/transport/generated/rondo.v1.ts";
import { generateIdentity, identityFingerprint, rawPublicKey } from "../../../operator/transport/identity.ts";
import type { Invitation } from "../../../operator/transport/invitation.ts";
import { createSigningRequest } from "../../../operator/transport/signing-request.ts";
import { MemoryStore, TestAgent } from "./agent.ts";
import { newAuthority, realm, TestOperator } from "./operator.ts";

let operator: TestOperator;
const agents: TestAgent[] = [];

beforeEach(async () => {
  operator = await TestOperator.start();
});
afterEach(async () => {
  await Promise.all(agents.splice(0).map((each) => each.client.stop()));
  await operator.stop();
});

function agent(...args: ConstructorParameters<typeof TestAgent>): TestAgent {
  const created = new TestAgent(...args);
  agents.push(created);
  return created;
}

function applicant(invitation: Invitation, identity = generateIdentity(), now = Date.now) {
  return { invitation, identity: identity.privateKey, now };
}

function holderOf(credential: Credential) {
  return certificateHolder(new X509Certificate(credential.certificatePem).raw, realm)!;
}

const otherToken = () => Buffer.alloc(32, 9).toString("base64");

test("the certificate names the participant and the identity that enrolled", async () => {
  const identity = generateIdentity();
  const credential = await enrol(applicant(operator.invite("clinic-a"), identity));
  expect(holderOf(credential)).toMatchObject({
    participant: "clinic-a",
    identityFingerprint: identityFingerprint(rawPublicKey(identity.publicKey)),
  });
  expect(credential.expiresAtMs - Date.now()).toBeGreaterThan(23.9 * 3_600_000);
  expect(operator.coordinator.certificates).toEqual(["clinic-a"]);
});

test("the same request again is answered again", async () => {
  const same = applicant(operator.invite("clinic-a"));
  await enrol(same);
  await enrol(same);
});

test("a token that nobody issued is refused", async () => {
  const invitation = { ...operator.invite("clinic-a"), joinToken: otherToken() };
  await expect(enrol(applicant(invitation))).rejects.toMatchObject({ code: "TokenUnknown" });
});

test("a token of another participant is refused", async () => {
  const invitation = { ...operator.invite("clinic-a"), participant: "clinic-b" };
  await expect(enrol(applicant(invitation))).rejects.toMatchObject({ code: "TokenUnknown" });
});

test("a token is for the first identity that shows it", async () => {
  const invitation = operator.invite("clinic-a");
  await enrol(applicant(invitation));
  await expect(enrol(applicant(invitation))).rejects.toMatchObject({ code: "TokenUsed" });
});

test("an expired token is refused with what to do", async () => {
  const clinic = agent(operator.invite("clinic-a", { ttlMs: -1 }));
  expect(await clinic.refused("TokenExpired")).toBe("The join token has expired; ask for a new invitation");
});

test("an identity that somebody else holds cannot be enrolled", async () => {
  const invitation = operator.invite("clinic-a");
  const [victim, thief] = [generateIdentity(), generateIdentity()];
  const { csr } = await createSigningRequest();
  const body = Enrolling.encode({
    participant: "clinic-a",
    joinToken: Buffer.from(invitation.joinToken, "base64"),
    identity: rawPublicKey(victim.publicKey),
    csr,
  }).finish();
  await expect(call(invitation, seal("enrol", body, thief.privateKey))).rejects.toMatchObject({
    code: "SignatureInvalid",
  });
});

test.each([
  { says: "nonsense", csr: Buffer.from("nonsense") },
  { says: "of 5000 bytes", csr: Buffer.alloc(5_000) },
])("a signing request that is $says is refused", async ({ csr }) => {
  const invitation = operator.invite("clinic-a");
  const identity = generateIdentity();
  const joinToken = Buffer.from(invitation.joinToken, "base64");
  const body = Enrolling.encode({
    participant: "clinic-a",
    joinToken,
    identity: rawPublicKey(identity.publicKey),
    csr,
  });
  const refused = call(invitation, seal("enrol", body.finish(), identity.privateKey));
  await expect(refused).rejects.toMatchObject({ code: "MessageInvalid" });
});

test("a message that is too large is refused before anything of it is read", async () => {
  const signed = { kind: "enrol", body: Buffer.alloc(100_000), signature: Buffer.alloc(64) };
  await expect(call(operator.invite("clinic-a"), signed)).rejects.toMatchObject({ code: "MessageTooLarge" });
  const larger = { kind: "enrol", body: Buffer.alloc(12_000), signature: Buffer.alloc(64) };
  await expect(call(operator.invite("clinic-a"), larger)).rejects.toMatchObject({ code: "MessageTooLarge" });
});

test("who asks too often is told to wait", async () => {
  const invitation = { ...operator.invite("clinic-a"), joinToken: otherToken() };
  const same = applicant(invitation);
  const codes = new Set<string>();
  for (let n = 0; n < 40; n += 1) await enrol(same).catch((fault) => codes.add(fault.code));
  expect([...codes]).toEqual(["TokenUnknown", "TooManyRequests"]);
});

test("an agent does not speak with a server that the invitation's authority has not certified", async () => {
  const other = await newAuthority();
  const clinic = agent({ ...operator.invite("clinic-a"), ca: other.certificatePem });
  expect(await clinic.refused("OperatorUntrusted")).toContain("did not prove to be the operator of the invitation");
  expect(operator.coordinator.certificates).toEqual([]);
});

test("a certificate of another authority gets no connection, whatever it says", async () => {
  const identity = generateIdentity();
  const invitation = operator.invite("clinic-a");
  const store = new MemoryStore();
  store.credential = await enrol(applicant(invitation, identity));
  const { csr, privateKeyPem } = await createSigningRequest();
  const forged = await issueAgentCertificate(await newAuthority(), {
    csr,
    identity: rawPublicKey(identity.publicKey),
    participant: "clinic-a",
    realm,
    nowMs: Date.now(),
  });
  const certificatePem = new X509Certificate(forged.certificate).toString();
  store.credential = { ...store.credential, certificatePem, privateKeyPem };
  const clinic = agent(invitation, { identity, store });
  expect(await clinic.refused("Unavailable")).toBe(`The operator at ${invitation.endpoint} cannot be reached`);
  // It renews by its identity, and then it may.
  await clinic.connected();
  expect(store.credential.certificatePem).not.toBe(certificatePem);
});

test("no certificate at all gets no connection, and TLS 1.2 gets none either", async () => {
  const [host, port] = operator.invite("clinic-a").endpoint.split(":");
  const base = { host, port: Number(port), rejectUnauthorized: false, ALPNProtocols: ["h2"] };
  const bare = connect(base);
  const [refused] = await once(bare, "error");
  expect(String(refused)).toMatch(/certificate required|alert number 116|ECONNRESET/);
  const old = connect({ ...base, maxVersion: "TLSv1.2" });
  const [version] = await once(old, "error");
  expect(String(version)).toMatch(/protocol version|alert number 70|ECONNRESET/);
});

test("an agent renews before its certificate ends and stays known under the same identity", async () => {
  await operator.down();
  await operator.stop().catch(() => undefined);
  operator = await TestOperator.start({ certificateLifeMs: 1_500 });
  const clinic = agent(operator.invite("clinic-a"));
  await clinic.connected();
  await clinic.until(() => clinic.connections >= 3);
  expect(clinic.disconnections).toEqual([]);
  expect(operator.coordinator.certificates.length).toBeGreaterThanOrEqual(3);
});

test("an agent that was away while its certificate ended comes back by itself", async () => {
  const invitation = operator.invite("clinic-a");
  const identity = generateIdentity();
  const credential = await enrol(applicant(invitation, identity));
  const store = new MemoryStore();
  store.credential = { ...credential, renewAtMs: Date.now() - 2_000, expiresAtMs: Date.now() - 1_000 };
  const clinic = agent(invitation, { identity, store });
  await clinic.connected();
  expect(store.credential.certificatePem).not.toBe(credential.certificatePem);
});

test("an agent that lost its certificate and whose token has been forgotten comes back by its identity", async () => {
  const invitation = operator.invite("clinic-a");
  const identity = generateIdentity();
  await enrol(applicant(invitation, identity));
  operator.coordinator.tokens.clear();
  await agent(invitation, { identity }).connected();
});

test("a renewal by another identity is refused", async () => {
  const invitation = operator.invite("clinic-a");
  await enrol(applicant(invitation));
  await expect(renew(applicant(invitation))).rejects.toMatchObject({ code: "SignatureInvalid" });
});

test.each([
  { says: "never enrolled", change: () => {}, code: "NotEnrolled" },
  { says: "was deleted", change: () => operator.coordinator.members.delete("clinic-a"), code: "ParticipantUnknown" },
  {
    says: "is suspended",
    change: () =>
      operator.coordinator.members.set("clinic-a", { participant: "clinic-a", enrolment: 1, suspended: true }),
    code: "Suspended",
  },
])("a renewal for a participant that $says is refused", async ({ change, code }) => {
  const invitation = operator.invite("clinic-a");
  change();
  await expect(renew(applicant(invitation))).rejects.toMatchObject({ code });
});

test("a renewal whose clock is three hours off is refused with the difference", async () => {
  const invitation = operator.invite("clinic-a");
  const identity = generateIdentity();
  await enrol(applicant(invitation, identity));
  const late = applicant(invitation, identity, () => Date.now() - 3 * 3_600_000);
  await expect(renew(late)).rejects.toMatchObject({
    code: "ClockSkew",
    message: "The agent's clock is 3 h behind the operator's; set the clocks",
  });
});

test("the server's certificate is replaced without a restart", async () => {
  const invitation = operator.invite("clinic-a");
  const serial = async () => {
    const [host, port] = invitation.enrolmentEndpoint.split(":");
    const socket = connect({ host, port: Number(port), ca: invitation.ca, ALPNProtocols: ["h2"] });
    await once(socket, "secureConnect");
    const { serialNumber } = socket.getPeerCertificate();
    socket.destroy();
    return serialNumber;
  };
  const before = await serial();
  await operator.tls.renew();
  expect(await serial()).not.toBe(before);
  await agent(invitation).connected();
});

test("nothing that answers is a sentence, too", async () => {
  const invitation = operator.invite("clinic-a");
  await operator.down();
  const clinic = agent(invitation);
  const reason = await clinic.refused("Unavailable");
  expect(reason).toBe(`The operator at ${invitation.enrolmentEndpoint} cannot be reached`);
  await operator.up();
  await clinic.connected();
});

/** A raw call, without the client's own checks. */
async function call(invitation: Invitation, signed: { kind: string; body: Uint8Array; signature: Uint8Array }) {
  const client = new EnrolmentClient(invitation.enrolmentEndpoint, credentials.createSsl(Buffer.from(invitation.ca)), {
    "grpc.ssl_target_name_override": operatorServerName(realm),
  });
  try {
    await new Promise((resolve, reject) => {
      client.enrol({ signed }, new Metadata(), { deadline: Date.now() + 5_000 }, (error, reply) => {
        if (error) reject(fromServiceError(error, "the test's operator"));
        else resolve(reply);
      });
    });
  } finally {
    client.close();
  }
}
