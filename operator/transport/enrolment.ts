/**
 * The Enrolment service: Enrol and Renew, on a port where the server alone shows a certificate (protocol.md).
 * Holds: whoever asks is unknown, so everything is bounded before it is decoded and counted per address; a certificate goes only to who
 * signed with the identity it is for, and binds the key of the request and nothing else of it.
 * Does not: judge tokens or write resources (the EnrolmentOffice does).
 */
import { createHash } from "node:crypto";
import { Server, type ServerCredentials, type ServerUnaryCall, type sendUnaryData } from "@grpc/grpc-js";
import { enrolledIdentity } from "./authenticate.ts";
import type { Realm } from "./certificate-names.ts";
import { type Authority, issueAgentCertificate } from "./certificates.ts";
import type { EnrolmentOffice } from "./coordinator.ts";
import { decode, openMessage, openSigned } from "./envelope.ts";
import { TransportFault, toStatus } from "./faults.ts";
import {
  type CertificateReply,
  Enrolling,
  EnrolmentService,
  type EnrolRequest,
  Renewing,
  type RenewRequest,
} from "./generated/rondo.v1.ts";
import { ED25519_BYTES, publicKeyFromRaw } from "./identity.ts";
import { MOST_ENROLMENT_BYTES, MOST_ENROLMENT_MESSAGE_BYTES } from "./limits.ts";
import { addressKey, RateLimit } from "./rate-limit.ts";
import { bind, serverOptions, shutdown } from "./server.ts";

const TOKEN_BYTES = 32;
/** rondo.v1.proto: a renewal is not replayed later than this. */
const MOST_SKEW_MS = 3_600_000;
/** Sites behind one address share these; an honest agent asks once a day. A signature costs 0.1 ms, a certificate 1 ms. */
const PER_ADDRESS = { burst: 30, perMinute: 30, mostKeys: 10_000 };
const IN_ALL = { burst: 200, perMinute: 600, mostKeys: 1 };

export interface EnrolmentOptions {
  /** host:port; port 0 takes a free one */
  address: string;
  realm: Realm;
  certificateLifeMs?: number;
  now?: () => number;
}

export interface EnrolmentModules {
  /** ServerTls.serverOnly() */
  credentials: ServerCredentials;
  authority: Authority;
  office: EnrolmentOffice;
  onError?: (error: unknown, call: "enrol" | "renew") => void;
}

/** @throws TransportFault "Unavailable" when the address cannot be listened on */
export async function startEnrolment(options: EnrolmentOptions, modules: EnrolmentModules): Promise<EnrolmentServer> {
  const server = new EnrolmentServer(options, modules);
  await server.listen(options.address, modules.credentials);
  return server;
}

export class EnrolmentServer {
  readonly #options: EnrolmentOptions;
  readonly #modules: EnrolmentModules;
  readonly #server: Server;
  readonly #perAddress = new RateLimit(PER_ADDRESS);
  readonly #inAll = new RateLimit(IN_ALL);
  #port = 0;

  constructor(options: EnrolmentOptions, modules: EnrolmentModules) {
    this.#options = options;
    this.#modules = modules;
    this.#server = new Server({
      ...serverOptions(MOST_ENROLMENT_MESSAGE_BYTES),
      // One request per connection is usual: idle ones of strangers are not kept.
      "grpc.max_connection_idle_ms": 30_000,
      "grpc.max_connection_age_ms": 300_000,
      "grpc.max_connection_age_grace_ms": 10_000,
    });
    this.#server.addService(EnrolmentService, {
      enrol: (call: ServerUnaryCall<EnrolRequest, CertificateReply>, reply: sendUnaryData<CertificateReply>) =>
        this.#serve("enrol", call, reply, () => this.#enrol(call.request)),
      renew: (call: ServerUnaryCall<RenewRequest, CertificateReply>, reply: sendUnaryData<CertificateReply>) =>
        this.#serve("renew", call, reply, () => this.#renew(call.request)),
    });
  }

  get port(): number {
    return this.#port;
  }

  async listen(address: string, credentials: ServerCredentials): Promise<void> {
    this.#port = await bind(this.#server, address, credentials);
  }

  async stop(graceMs = 2_000): Promise<void> {
    await shutdown(this.#server, graceMs);
  }

  async #enrol({ signed }: EnrolRequest): Promise<CertificateReply> {
    const { participant, joinToken, identity, csr } = openEnrolling(signed);
    const tokenSha256 = createHash("sha256").update(joinToken).digest();
    await this.#modules.office.enrol(participant, tokenSha256, identity);
    return this.#certify({ participant, identity, csr });
  }

  async #renew({ signed }: RenewRequest): Promise<CertificateReply> {
    // The key that verifies is the Participant's own, so the name is read first, from a body of bounded size, and believed afterwards.
    const claimed = boundedBody(signed, "renew", Renewing).participant;
    const identity = enrolledIdentity(this.#modules.office.member(claimed));
    const expected = { kind: "renew", publicKey: publicKeyFromRaw(identity), mostBytes: MOST_ENROLMENT_BYTES } as const;
    const { participant, csr, sentAtMs } = openMessage(signed, expected, Renewing);
    const skewMs = sentAtMs - this.#now();
    if (Math.abs(skewMs) > MOST_SKEW_MS) {
      const hours = Math.round(Math.abs(skewMs) / 360_000) / 10;
      throw new TransportFault(
        "ClockSkew",
        `The agent's clock is ${hours} h ${skewMs > 0 ? "ahead of" : "behind"} the operator's; set the clocks`,
      );
    }
    return this.#certify({ participant, identity, csr });
  }

  async #certify(request: { participant: string; identity: Uint8Array; csr: Uint8Array }): Promise<CertificateReply> {
    const { certificate, notAfterMs } = await issueAgentCertificate(this.#modules.authority, {
      ...request,
      realm: this.#options.realm,
      nowMs: this.#now(),
      lifeMs: this.#options.certificateLifeMs,
    });
    this.#modules.office.issued(request.participant, notAfterMs);
    return { certificate, notAfterMs, sentAtMs: this.#now() };
  }

  #serve(
    name: "enrol" | "renew",
    call: { getPeer(): string },
    reply: sendUnaryData<CertificateReply>,
    work: () => Promise<CertificateReply>,
  ): void {
    const passes = this.#perAddress.take(addressKey(call.getPeer()), this.#now()) && this.#inAll.take("", this.#now());
    const served = passes
      ? work()
      : Promise.reject(
          new TransportFault("TooManyRequests", "Too many enrolment requests; the agent tries again later"),
        );
    served.then(
      (certificate) => reply(null, certificate),
      (error: unknown) => {
        if (!(error instanceof TransportFault)) this.#modules.onError?.(error, name);
        reply(toStatus(error));
      },
    );
  }

  #now(): number {
    return (this.#options.now ?? Date.now)();
  }
}

function openEnrolling(signed: EnrolRequest["signed"]): Enrolling {
  const { participant, joinToken, identity } = boundedBody(signed, "enrol", Enrolling);
  if (participant.length > 253 || joinToken.length !== TOKEN_BYTES || identity.length !== ED25519_BYTES) {
    throw new TransportFault(
      "MessageInvalid",
      "An enrolment holds a participant, a token of 32 bytes and a key of 32 bytes",
    );
  }
  // Signed by the very key it brings: it proves that whoever enrols an identity holds it.
  const body = openSigned(signed, {
    kind: "enrol",
    publicKey: publicKeyFromRaw(identity),
    mostBytes: MOST_ENROLMENT_BYTES,
  });
  return decode(body, "enrol", Enrolling);
}

function boundedBody<T>(
  signed: EnrolRequest["signed"],
  kind: "enrol" | "renew",
  type: { decode(bytes: Uint8Array): T },
): T {
  if (!signed || signed.kind !== kind)
    throw new TransportFault("MessageInvalid", `Expected a message of kind "${kind}"`);
  if (signed.body.length > MOST_ENROLMENT_BYTES) {
    throw new TransportFault(
      "MessageTooLarge",
      `A message of kind "${kind}" has at most ${MOST_ENROLMENT_BYTES} bytes`,
    );
  }
  return decode(signed.body, kind, type);
}
