/**
 * The agent's side of Enrol and Renew: a new TLS key and a certificate for it.
 */
import { type KeyObject, X509Certificate } from "node:crypto";
import { Metadata } from "@grpc/grpc-js";
import { effect } from "../fault-injection.ts";
import { enrolmentChannel } from "./channel.ts";
import type { Credential } from "./credential.ts";
import { seal } from "./envelope.ts";
import { fromServiceError, TransportFault } from "./faults.ts";
import { type CertificateReply, Enrolling, type EnrolmentClient, Renewing } from "./generated/rondo.v1.ts";
import { rawPublicKey } from "./identity.ts";
import type { Invitation } from "./invitation.ts";

/** A handshake, a signature and a write to the API server; beyond this the operator is in trouble and a later try is better. */
const ANSWER_MS = 30_000;

export interface Applicant {
  invitation: Invitation;
  /** Ed25519 private key */
  identity: KeyObject;
  now: () => number;
}

/** @throws TransportFault "TokenUnknown" | "TokenUsed" | "TokenExpired" | "ParticipantUnknown" | "Suspended" | … */
export function enrol(applicant: Applicant): Promise<Credential> {
  const { invitation, identity } = applicant;
  return certified(applicant, (client, csr, done) => {
    const body = Enrolling.encode({
      participant: invitation.participant,
      joinToken: Buffer.from(invitation.joinToken, "base64"),
      identity: rawPublicKey(identity),
      csr,
    }).finish();
    client.enrol({ signed: seal("enrol", body, identity) }, new Metadata(), within(ANSWER_MS), done);
  });
}

/** @throws TransportFault "NotEnrolled" | "SignatureInvalid" | "ParticipantUnknown" | "Suspended" | "ClockSkew" | … */
export function renew(applicant: Applicant): Promise<Credential> {
  const { invitation, identity, now } = applicant;
  return certified(applicant, (client, csr, done) => {
    const body = Renewing.encode({ participant: invitation.participant, csr, sentAtMs: now() }).finish();
    client.renew({ signed: seal("renew", body, identity) }, new Metadata(), within(ANSWER_MS), done);
  });
}

type Done = (error: unknown, reply?: CertificateReply) => void;

async function certified(
  { invitation, now }: Applicant,
  ask: (client: EnrolmentClient, csr: Uint8Array, done: Done) => void,
): Promise<Credential> {
  // Here and not above: the certificate library takes 20 MiB, which an agent needs once a day.
  const { createSigningRequest } = await import("./signing-request.ts");
  const { csr, privateKeyPem } = await createSigningRequest();
  const client = enrolmentChannel(invitation);
  try {
    const reply = await new Promise<CertificateReply>((resolve, reject) => {
      ask(client, csr, (error, answer) => (answer ? resolve(answer) : reject(error)));
    });
    effect("grpc", "ask for a certificate");
    return credentialFrom(reply, privateKeyPem, now());
  } catch (error) {
    throw fromServiceError(error, invitation.enrolmentEndpoint);
  } finally {
    client.close();
  }
}

/** A deadline of gRPC is by the machine's clock, whatever clock the agent was given. */
function within(ms: number): { deadline: number } {
  return { deadline: Date.now() + ms };
}

function credentialFrom(reply: CertificateReply, privateKeyPem: string, receivedAtMs: number): Credential {
  const lifeMs = reply.notAfterMs - reply.sentAtMs;
  if (lifeMs <= 0)
    throw new TransportFault("MessageInvalid", "The operator issued a certificate that has ended already");
  return {
    certificatePem: new X509Certificate(reply.certificate).toString(),
    privateKeyPem,
    renewAtMs: Math.floor(receivedAtMs + (lifeMs * 2) / 3),
    expiresAtMs: receivedAtMs + lifeMs,
  };
}
