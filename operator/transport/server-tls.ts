/**
 * TLS 1.3 for the operator's two ports, with a server certificate that is replaced before it ends, without a restart.
 * Holds: one certificate for both ports; the mutual one asks for a client certificate of our authority and takes no connection without.
 */
import { ServerCredentials } from "@grpc/grpc-js";
import { type Authority, issueServerCertificate, type ServerCertificate } from "./certificates.ts";

/** A failed renewal is tried again this soon: what fails is our own key or our own clock, and life is counted in days. */
const RETRY_MS = 60_000;
/** setTimeout holds at most 2^31-1 ms. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;
/** Streams that one connection may have open: Attend, uploads and downloads of one agent. */
const MOST_STREAMS = 32;
/** A stranger's connection that has not shown its certificate by then is closed. Node's default of two minutes lets one peer hold many. */
const HANDSHAKE_MS = 10_000;
/** Bytes of one upload that may be under way: 1 MiB is 20 MB/s at 50 ms, where Node's default of 64 KiB is 1.3. */
const STREAM_WINDOW_BYTES = 2 ** 20;

export interface ServerTlsOptions {
  authority: Authority;
  trustDomain: string;
  /** Names and addresses that agents dial. */
  hosts: string[];
  now?: () => number;
  lifeMs?: number;
  handshakeMs?: number;
  onError?: (error: unknown) => void;
}

export async function openServerTls(options: ServerTlsOptions): Promise<ServerTls> {
  const tls = new ServerTls(options);
  await tls.renew();
  return tls;
}

export class ServerTls {
  readonly #options: ServerTlsOptions;
  readonly #credentials: RenewableCredentials[] = [];
  #certificate: ServerCertificate | undefined;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(options: ServerTlsOptions) {
    this.#options = options;
  }

  get notAfterMs(): number {
    return this.#certificate?.notAfterMs ?? 0;
  }

  /** For the Coordination service. */
  mutual(): ServerCredentials {
    return this.#add("required");
  }

  /** For the Enrolment service. */
  serverOnly(): ServerCredentials {
    return this.#add("none");
  }

  /** A new certificate for new connections; living ones keep theirs. Called by itself at half of a certificate's life. */
  async renew(): Promise<void> {
    const nowMs = (this.#options.now ?? Date.now)();
    this.#certificate = await issueServerCertificate(this.#options.authority, { ...this.#options, nowMs });
    for (const credentials of this.#credentials) credentials.use(this.#certificate);
    this.#schedule((this.#certificate.notAfterMs - nowMs) / 2);
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #schedule(inMs: number): void {
    clearTimeout(this.#timer);
    if (this.#stopped) return;
    const renew = () => {
      this.renew().catch((error: unknown) => {
        this.#options.onError?.(error);
        this.#schedule(RETRY_MS);
      });
    };
    this.#timer = setTimeout(renew, Math.min(inMs, LONGEST_TIMER_MS)).unref();
  }

  #add(clientCertificate: "required" | "none"): ServerCredentials {
    const { authority, handshakeMs = HANDSHAKE_MS } = this.#options;
    const credentials = new RenewableCredentials(authority.certificatePem, { clientCertificate, handshakeMs });
    if (this.#certificate) credentials.use(this.#certificate);
    this.#credentials.push(credentials);
    return credentials;
  }
}

/** ServerCredentials.createSsl() can neither ask for TLS 1.3 nor change its certificate; the class below it can. */
class RenewableCredentials extends ServerCredentials {
  readonly #ca: string;

  constructor(
    ca: string,
    { clientCertificate, handshakeMs }: { clientCertificate: "required" | "none"; handshakeMs: number },
  ) {
    const required = clientCertificate === "required";
    super({
      minVersion: "TLSv1.3",
      requestCert: required,
      rejectUnauthorized: required,
      handshakeTimeout: handshakeMs,
      settings: { maxConcurrentStreams: MOST_STREAMS, initialWindowSize: STREAM_WINDOW_BYTES },
    });
    this.#ca = ca;
  }

  use(certificate: ServerCertificate): void {
    this.updateSecureContextOptions({
      ca: this.#ca,
      cert: certificate.certificatePem,
      key: certificate.privateKeyPem,
      minVersion: "TLSv1.3",
    });
  }

  override _equals(other: ServerCredentials): boolean {
    return this === other;
  }
}
