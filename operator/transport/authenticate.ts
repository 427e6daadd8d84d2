/**
 * Who is speaking on a call of the Coordination service: asked at every opening (protocol.md "Identity").
 * Holds: the certificate is of our authority (TLS), of this realm, not ended, and was issued to the identity that the Participant has now.
 */
import type { KeyObject } from "node:crypto";
import type { ServerUnaryCall } from "@grpc/grpc-js";
import { type CertificateHolder, certificateHolder, type Realm } from "./certificate-names.ts";
import type { Coordinator, Member } from "./coordinator.ts";
import { TransportFault } from "./faults.ts";
import { identityFingerprint, publicKeyFromRaw } from "./identity.ts";

export interface Speaker {
  participant: string;
  /** Ed25519, verifies every envelope of this call. */
  identity: KeyObject;
  /** When the certificate ends; no stream outlives it. */
  notAfterMs: number;
}

export function authenticate(
  call: Pick<ServerUnaryCall<unknown, unknown>, "getAuthContext">,
  { coordinator, realm, nowMs }: { coordinator: Pick<Coordinator, "member">; realm: Realm; nowMs: number },
): Speaker {
  return speakerOf(holderOf(call, realm), { coordinator, nowMs });
}

export function speakerOf(
  holder: CertificateHolder,
  parts: { coordinator: Pick<Coordinator, "member">; nowMs: number },
): Speaker {
  const identity = publicKeyFromRaw(admit(holder, parts));
  return { participant: holder.participant, identity, notAfterMs: holder.notAfterMs };
}

/** Whose certificate this connection came with: it has one for life, and reading it is most of what asking costs. */
export function holderOf(
  call: Pick<ServerUnaryCall<unknown, unknown>, "getAuthContext">,
  realm: Realm,
): CertificateHolder {
  const raw = call.getAuthContext().sslPeerCertificate?.raw;
  const holder = raw && certificateHolder(raw, realm);
  if (!holder) throw new TransportFault("CertificateInvalid", "The certificate is not that of a participant here");
  return holder;
}

/** Whether the holder may speak now. @returns the identity that the certificate was issued to */
export function admit(
  holder: CertificateHolder,
  { coordinator, nowMs }: { coordinator: Pick<Coordinator, "member">; nowMs: number },
): Uint8Array {
  if (holder.notAfterMs <= nowMs)
    throw new TransportFault("CertificateExpired", "The participant's certificate has ended");
  const identity = enrolledIdentity(coordinator.member(holder.participant));
  if (identityFingerprint(identity) !== holder.identityFingerprint) {
    throw new TransportFault("IdentityChanged", "The certificate was issued to a former identity of the participant");
  }
  return identity;
}

/** @throws TransportFault "ParticipantUnknown" | "Suspended" | "NotEnrolled" */
export function enrolledIdentity(member: Member | undefined): Uint8Array {
  if (!member) throw new TransportFault("ParticipantUnknown", "There is no such Participant; ask for a new invitation");
  if (member.suspended) throw new TransportFault("Suspended", "The Participant is suspended by the coordinator");
  if (!member.identity) throw new TransportFault("NotEnrolled", "The Participant has not enrolled yet");
  return member.identity;
}
