/**
 * The agent's line to the operator (protocol.md): enrols, renews, attends, connects again by itself, and carries reports, uploads and downloads.
 * Holds: whoever uses it never sees gRPC: what goes wrong is a TransportFault with a sentence; what can succeed later is tried again here.
 * Does not: remember anything over a restart but the certificate; reports and uploads are begun again from the agent's ledger.
 */
import type { KeyObject } from "node:crypto";
import { Backoff, pause } from "./backoff.ts";
import { Connection, type ConnectionParts, type Introduction } from "./connection.ts";
import type { AgentReport } from "./coordinator.ts";
import type { Credential, CredentialStore } from "./credential.ts";
import { type DownloadTry, downloadOnce, isDownloaded } from "./download-client.ts";
import { enrol, renew } from "./enrol-client.ts";
import { type TransportCode, TransportFault } from "./faults.ts";
import type { Cancellation, DrawStep, Manifest, ProtocolStep, Receipt, Signed } from "./generated/rondo.v1.ts";
import type { Invitation } from "./invitation.ts";
import { Outbox } from "./outbox.ts";
import type { ReportBody, ReportKind } from "./reports.ts";
import { uploadOnce } from "./upload-client.ts";

/** First a second, for an operator that restarts; at most half a minute, so that a site is back soon after a long outage. */
const RECONNECT = { firstMs: 1_000, mostMs: 30_000 };
/** A connection that lasts this many first waits was a success, after which the waits begin anew. */
const STEADY_AFTER = 10;
/** An upload or download that fails this often in a row without moving forward is given up, and the connection is not to blame. */
const MOST_TRIES_IN_VAIN = 8;
/**
 * A server that refuses a client certificate in TLS 1.3 looks to gRPC like one that cannot be reached. So the second failure in a row, and
 * every tenth after it, renews first: that port asks for no certificate.
 */
const RENEW_WHEN_UNREACHABLE = 10;
type Doubt = "none" | "suspected" | "certain";
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export interface ClientOptions {
  invitation: Invitation;
  /** Ed25519 private key of the participant. */
  identity: KeyObject;
  now?: () => number;
  random?: () => number;
  reconnect?: { firstMs: number; mostMs: number };
}

export interface ClientModules {
  store: CredentialStore;
  /** Asked at every connection: version, capacity and the rounds still worked on. */
  introduce: () => Promise<Introduction>;
  handlers: ClientHandlers;
}

export interface ClientHandlers {
  /**
   * A plan whose signature by the plan key is right; open it with plan.ts. The same plan may come again.
   * @param clockSkewMs  the agent's clock minus the operator's, the way of the message included: a deadline here is `deadline + clockSkewMs`
   */
  plan(signed: Signed, clockSkewMs: number): void;
  cancelled(cancellation: Cancellation): void;
  /** What the operator asks of a session of secure aggregation, unsigned and unchecked but for its work; the same may come again. */
  step(step: ProtocolStep): void;
  /** Likewise of a draw: its work.attempt is the draw's number. */
  draw(step: DrawStep): void;
  connected(): void;
  /** Tried again by itself, whatever the reason; the sentence is for a person. */
  disconnected(reason: string, code: TransportCode): void;
}

export class CoordinatorClient {
  readonly #parts: ConnectionParts;
  readonly #modules: ClientModules;
  readonly #outbox: Outbox;
  readonly #random: () => number;
  readonly #reconnect: { firstMs: number; mostMs: number };
  readonly #stopped = new AbortController();
  #running: Promise<void> | undefined;
  #connection: Connection | undefined;
  #connected = Promise.withResolvers<Connection>();

  constructor(
    { invitation, identity, now = Date.now, random = Math.random, reconnect }: ClientOptions,
    modules: ClientModules,
  ) {
    this.#parts = { invitation, identity, now };
    this.#modules = modules;
    this.#outbox = new Outbox(identity);
    this.#random = random;
    this.#reconnect = reconnect ?? RECONNECT;
  }

  get isConnected(): boolean {
    return this.#connection !== undefined;
  }

  /** Begins to connect, and goes on until stop(). */
  start(): void {
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    this.#connection?.end();
    this.#outbox.close();
    await this.#running;
  }

  /**
   * Resolves when the operator has journalled the report; said again after every reconnect until then. A status that a newer one of the
   * same work overtakes resolves as well.
   * @param signal  withdraws it: it is not said again, though the operator may have it
   * @throws TransportFault "NotExpected" when the operator refuses it for good, "Stopped" by the signal or stop()
   */
  async send<K extends ReportKind>(
    kind: K,
    body: ReportBody<K>,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<void> {
    if (this.#stopped.signal.aborted || signal?.aborted) {
      throw new TransportFault("Stopped", "The agent has given up what it was about to say");
    }
    const { signed, acknowledged } = this.#outbox.add({ kind, body } as AgentReport);
    const withdraw = () => this.#outbox.withdraw(signed);
    signal?.addEventListener("abort", withdraw, { once: true });
    try {
      this.#connection?.send(signed);
      await acknowledged;
    } finally {
      signal?.removeEventListener("abort", withdraw);
    }
  }

  /**
   * Uploads a file that does not change any more; continues after every reconnect where the operator is.
   * @param manifest  manifestOf() of upload-client.ts
   * @throws TransportFault: refused for good, "Stopped" by the signal or stop()
   */
  async upload(
    manifest: Manifest,
    file: string,
    { onProgress, signal }: { onProgress?: (bytes: number) => void; signal?: AbortSignal } = {},
  ): Promise<Receipt> {
    return this.#persist(signal, (connection, stopped, moved) =>
      uploadOnce(connection, this.#parts, {
        manifest,
        file,
        signal: stopped,
        onProgress: (bytes) => {
          moved(bytes);
          onProgress?.(bytes);
        },
      }),
    );
  }

  /**
   * Downloads an adapter into `destination`, which appears complete and verified; a partial file beside it is continued.
   * @param digest  SHA-256 of the file, 32 bytes
   * @throws TransportFault "DigestUnknown", "DigestDiffers", "MessageInvalid", "Stopped", …
   */
  async download(
    digest: Uint8Array,
    destination: string,
    { federation, expectedBytes, signal }: { federation: string; expectedBytes: number; signal?: AbortSignal },
  ): Promise<void> {
    const wanted = { federation, digest, destination, expectedBytes } satisfies Omit<DownloadTry, "signal">;
    if (await isDownloaded({ ...wanted, signal: this.#stopped.signal })) return;
    await this.#persist(signal, (connection, stopped) =>
      downloadOnce(connection, this.#parts, { ...wanted, signal: stopped }),
    );
  }

  async #run(): Promise<void> {
    const backoff = new Backoff({ ...this.#reconnect, random: this.#random });
    let doubt: Doubt = "none";
    let unreachable = 0;
    let connectedAt = Number.POSITIVE_INFINITY;
    while (!this.#stopped.signal.aborted) {
      try {
        const credential = await this.#credential(doubt);
        doubt = "none";
        await this.#attend(credential, () => {
          unreachable = 0;
          connectedAt = performance.now();
        });
      } catch (error) {
        if (this.#stopped.signal.aborted) break;
        const fault = asFault(error);
        // Two agents with one identity replace each other: a connection that is soon lost is no success.
        if (performance.now() - connectedAt > STEADY_AFTER * this.#reconnect.firstMs) backoff.reset();
        connectedAt = Number.POSITIVE_INFINITY;
        if (fault.code === "Unavailable") unreachable += 1;
        // A Participant that was deleted and made again knows no identity: the certificate is good and says nothing, the invitation may be a new one.
        if (fault.retry === "renew" || fault.code === "NotEnrolled") doubt = "certain";
        else if (unreachable % RENEW_WHEN_UNREACHABLE === 2) doubt = "suspected";
        this.#modules.handlers.disconnected(fault.message, fault.code);
        await pause(backoff.next(), this.#stopped.signal);
      }
    }
  }

  async #attend(credential: Credential, connected: () => void): Promise<void> {
    const connection = await Connection.open(this.#parts, {
      credential,
      introduce: this.#modules.introduce,
      signal: this.#stopped.signal,
    });
    const renewal = this.#renewInTime(credential, connection);
    this.#connection = connection;
    this.#connected.resolve(connection);
    connected();
    try {
      this.#modules.handlers.connected();
      for (const signed of this.#outbox.unacknowledged()) connection.send(signed);
      if (this.#stopped.signal.aborted) connection.end();
      await connection.read({
        plan: (signed, skewMs) => this.#modules.handlers.plan(signed, skewMs),
        cancelled: (cancellation) => this.#modules.handlers.cancelled(cancellation),
        step: (step) => this.#modules.handlers.step(step),
        draw: (step) => this.#modules.handlers.draw(step),
        acknowledged: (acknowledgement) => this.#outbox.settle(acknowledgement),
      });
    } finally {
      renewal.cancel();
      this.#connection = undefined;
      this.#connected = Promise.withResolvers<Connection>();
    }
  }

  /** Renews while connected, and then ends the connection: the next one is made at once, with the new certificate. */
  #renewInTime(credential: Credential, connection: Connection): { cancel(): void } {
    let timer: NodeJS.Timeout;
    const { now } = this.#parts;
    const schedule = (inMs: number) => {
      // It may have ended while a renewal was under way: the next connection has a timer of its own.
      if (connection.ended.aborted) return;
      timer = setTimeout(attempt, Math.min(Math.max(inMs, 0), LONGEST_TIMER_MS));
    };
    const attempt = () => {
      if (now() < credential.renewAtMs) {
        schedule(credential.renewAtMs - now());
        return;
      }
      this.#renew().then(
        () => connection.end(),
        // A tenth of what remains, as long as there is something left; afterwards the operator ends the stream.
        () => schedule(Math.max((credential.expiresAtMs - now()) / 10, this.#reconnect.firstMs)),
      );
    };
    schedule(credential.renewAtMs - now());
    connection.ended.addEventListener("abort", () => clearTimeout(timer), { once: true });
    return { cancel: () => clearTimeout(timer) };
  }

  /** A credential to connect with: the stored one while it is fresh, else a renewed one, else one for the join token. */
  async #credential(doubt: Doubt): Promise<Credential> {
    const stored = await this.#modules.store.load();
    if (stored && doubt === "none" && this.#parts.now() < stored.renewAtMs) return stored;
    if (!stored) return this.#first();
    try {
      return await this.#renew();
    } catch (error) {
      const fault = asFault(error);
      // Still good, and the enrolment port may be down for a while.
      if (doubt !== "certain" && this.#parts.now() < stored.expiresAtMs && fault.retry === "later") return stored;
      if (!UNENROLLED.has(fault.code)) throw fault;
      return this.#save(await enrol(this.#parts));
    }
  }

  /** Without a stored certificate: by the token, or, when that is gone but the identity is enrolled (the volume was lost), by renewal. */
  async #first(): Promise<Credential> {
    try {
      return await this.#save(await enrol(this.#parts));
    } catch (error) {
      const fault = asFault(error);
      if (!fault.code.startsWith("Token")) throw fault;
      return await this.#renew().catch(() => {
        throw fault;
      });
    }
  }

  async #renew(): Promise<Credential> {
    return this.#save(await renew(this.#parts));
  }

  async #save(credential: Credential): Promise<Credential> {
    await this.#modules.store.save(credential);
    return credential;
  }

  /** Repeats one try over every connection there will be, until it succeeds or cannot. */
  async #persist<T>(
    given: AbortSignal | undefined,
    once: (connection: Connection, stopped: AbortSignal, moved: (bytes: number) => void) => Promise<T>,
  ): Promise<T> {
    // Not AbortSignal.any(): in Node 24 what it makes stays on the list of a signal that lives as long as the agent.
    const either = new AbortController();
    const stop = () => either.abort();
    const sources = [this.#stopped.signal, ...(given ? [given] : [])];
    if (sources.some((source) => source.aborted)) stop();
    for (const source of sources) source.addEventListener("abort", stop, { once: true });
    try {
      return await this.#repeat(either.signal, once);
    } finally {
      for (const source of sources) source.removeEventListener("abort", stop);
    }
  }

  async #repeat<T>(
    stopped: AbortSignal,
    once: (connection: Connection, stopped: AbortSignal, moved: (bytes: number) => void) => Promise<T>,
  ): Promise<T> {
    const backoff = new Backoff({ ...this.#reconnect, random: this.#random });
    let furthest = 0;
    let inVain = 0;
    for (;;) {
      const connection = await this.#nextConnection(stopped);
      try {
        return await once(connection, stopped, (bytes) => {
          if (bytes <= furthest) return;
          furthest = bytes;
          inVain = 0;
          backoff.reset();
        });
      } catch (error) {
        const fault = asFault(error);
        if (fault.retry === "never" || stopped.aborted) throw fault;
        // A lost connection is nobody's fault, and a full volume is somebody's who has to enlarge it: as often as there is time.
        if (!connection.ended.aborted && fault.code !== "DiskFull") inVain += 1;
        if (inVain > MOST_TRIES_IN_VAIN) throw fault;
        await pause(backoff.next(), stopped);
      }
    }
  }

  async #nextConnection(stopped: AbortSignal): Promise<Connection> {
    const aborted = Promise.withResolvers<never>();
    const abort = () =>
      aborted.reject(new TransportFault("Stopped", "It was given up before the operator could be reached"));
    if (stopped.aborted) abort();
    stopped.addEventListener("abort", abort, { once: true });
    try {
      return await Promise.race([this.#connected.promise, aborted.promise]);
    } finally {
      stopped.removeEventListener("abort", abort);
    }
  }
}

/** The operator does not know this identity: the invitation may be a new one. */
const UNENROLLED = new Set<TransportCode>(["NotEnrolled", "SignatureInvalid", "ParticipantUnknown"]);

function asFault(error: unknown): TransportFault {
  return error instanceof TransportFault
    ? error
    : new TransportFault("Internal", `The agent failed: ${error instanceof Error ? error.message : String(error)}`);
}
