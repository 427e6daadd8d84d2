/**
 * A real operator's transport for tests: authority, both servers, journal and spool on disk, and a coordinator that only remembers.
 */
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Journal } from "../../../operator/journal/journal.ts";
import { openJournal } from "../../../operator/journal/open.ts";
import { openSpool, type Spool } from "../../../operator/journal/spool.ts";
import type { Realm } from "../../../operator/transport/certificate-names.ts";
import { type Authority, createAuthority, loadAuthority } from "../../../operator/transport/certificates.ts";
import type {
  AgentReport,
  Coordinator,
  EnrolmentOffice,
  Member,
  Session,
} from "../../../operator/transport/coordinator.ts";
import { type EnrolmentServer, startEnrolment } from "../../../operator/transport/enrolment.ts";
import { TransportFault } from "../../../operator/transport/faults.ts";
import type { Manifest } from "../../../operator/transport/generated/rondo.v1.ts";
import { generateIdentity, rawPublicKey } from "../../../operator/transport/identity.ts";
import type { Invitation } from "../../../operator/transport/invitation.ts";
import { type CoordinationServer, startCoordination } from "../../../operator/transport/server.ts";
import { openServerTls, type ServerTls } from "../../../operator/transport/server-tls.ts";

export const realm: Realm = { trustDomain: "demo.rondo.dev", namespace: "rondo" };

interface Token {
  participant: string;
  expiresAtMs: number;
  usedBy?: string;
}

export class RememberingCoordinator implements Coordinator, EnrolmentOffice {
  readonly members = new Map<string, Member>();
  readonly tokens = new Map<string, Token>();
  readonly reports: Array<{ participant: string; report: AgentReport }> = [];
  readonly uploads: Array<{ participant: string; manifest: Manifest; file: string }> = [];
  readonly adapters = new Map<string, string>();
  readonly events: string[] = [];
  readonly certificates: string[] = [];
  admit: Coordinator["admitUpload"] = async () => {};
  receive: Coordinator["received"] = async () => {};
  foundNoRoom: NonNullable<Coordinator["foundNoRoom"]> = () => {};

  member(participant: string): Member | undefined {
    return this.members.get(participant);
  }
  attended(session: Session): void {
    this.events.push(`attended ${session.participant}`);
  }
  left(session: Session): void {
    this.events.push(`left ${session.participant}`);
  }
  async received(participant: string, report: AgentReport): Promise<void> {
    await this.receive(participant, report);
    this.reports.push({ participant, report });
  }
  admitUpload(participant: string, manifest: Manifest): Promise<void> {
    return this.admit(participant, manifest);
  }
  async uploaded(participant: string, manifest: Manifest, file: string): Promise<void> {
    this.uploads.push({ participant, manifest, file });
  }
  async adapter(_participant: string, digest: Uint8Array) {
    const file = this.adapters.get(Buffer.from(digest).toString("hex"));
    return file === undefined ? undefined : { file, byteLength: (await stat(file)).size };
  }
  async enrol(participant: string, tokenSha256: Uint8Array, identity: Uint8Array): Promise<void> {
    const token = this.tokens.get(Buffer.from(tokenSha256).toString("hex"));
    const fingerprint = Buffer.from(identity).toString("hex");
    if (!token || token.participant !== participant)
      throw new TransportFault("TokenUnknown", "The join token is unknown");
    const present = this.members.get(participant)?.identity;
    const isOvertaken = token.usedBy && present && Buffer.from(present).toString("hex") !== token.usedBy;
    if (isOvertaken || (token.usedBy && token.usedBy !== fingerprint)) {
      throw new TransportFault("TokenUsed", "The join token was used by another agent");
    }
    if (!token.usedBy && token.expiresAtMs < Date.now()) {
      throw new TransportFault("TokenExpired", "The join token has expired; ask for a new invitation");
    }
    token.usedBy = fingerprint;
    const enrolment = (this.members.get(participant)?.enrolment ?? 0) + 1;
    this.members.set(participant, { participant, identity, enrolment, suspended: false });
  }
  issued(participant: string): void {
    this.certificates.push(participant);
  }
}

export interface TestOperatorOptions {
  certificateLifeMs?: number;
  now?: () => number;
  handshakeMs?: number;
}

export class TestOperator {
  readonly coordinator = new RememberingCoordinator();
  readonly planKey = generateIdentity();
  readonly errors: unknown[] = [];
  folder = "";
  authority!: Authority;
  tls!: ServerTls;
  journal!: Journal;
  spool!: Spool;
  server!: CoordinationServer;
  enrolment!: EnrolmentServer;
  readonly #options: TestOperatorOptions;
  #ports = { coordination: 0, enrolment: 0 };

  private constructor(options: TestOperatorOptions) {
    this.#options = options;
  }

  static async start(options: TestOperatorOptions = {}): Promise<TestOperator> {
    const operator = new TestOperator(options);
    operator.folder = await mkdtemp(join(tmpdir(), "rondo-operator-"));
    operator.authority = await newAuthority();
    await operator.up();
    return operator;
  }

  /** Starts again on the same volume and ports. */
  async up(): Promise<void> {
    const { coordinator, authority } = this;
    const onError = (error: unknown) => this.errors.push(error);
    this.journal = await openJournal(join(this.folder, "journal.db"));
    this.spool = await openSpool(join(this.folder, "spool"));
    this.tls = await openServerTls({
      authority,
      trustDomain: realm.trustDomain,
      hosts: ["localhost", "127.0.0.1"],
      handshakeMs: this.#options.handshakeMs,
    });
    this.server = await startCoordination(
      {
        address: `127.0.0.1:${this.#ports.coordination}`,
        realm,
        planKey: this.planKey.privateKey,
        now: this.#options.now,
      },
      { credentials: this.tls.mutual(), coordinator, spool: this.spool, journal: this.journal, onError },
    );
    this.enrolment = await startEnrolment(
      { address: `127.0.0.1:${this.#ports.enrolment}`, realm, ...this.#options },
      { credentials: this.tls.serverOnly(), authority, office: coordinator, onError },
    );
    this.#ports = { coordination: this.server.port, enrolment: this.enrolment.port };
  }

  async down(graceMs = 2_000): Promise<void> {
    await Promise.all([this.server.stop(graceMs), this.enrolment.stop(500)]);
    this.tls.stop();
    await this.journal.close();
  }

  async stop(): Promise<void> {
    await this.down();
    await rm(this.folder, { recursive: true });
  }

  /** A Participant with a join token. */
  invite(participant: string, { ttlMs = 60_000, host = "127.0.0.1" } = {}): Invitation {
    const token = randomBytes(32);
    this.coordinator.tokens.set(createHash("sha256").update(token).digest("hex"), {
      participant,
      expiresAtMs: Date.now() + ttlMs,
    });
    if (!this.coordinator.members.has(participant)) {
      this.coordinator.members.set(participant, { participant, enrolment: 1, suspended: false });
    }
    return {
      schema: 1,
      endpoint: `${host}:${this.#ports.coordination}`,
      enrolmentEndpoint: `${host}:${this.#ports.enrolment}`,
      ca: this.authority.certificatePem,
      planKey: Buffer.from(rawPublicKey(this.planKey.publicKey)).toString("base64"),
      ...realm,
      participant,
      joinToken: token.toString("base64"),
    };
  }
}

export async function newAuthority(): Promise<Authority> {
  return loadAuthority(await createAuthority({ trustDomain: realm.trustDomain, nowMs: Date.now() }));
}
