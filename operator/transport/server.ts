/**
 * The Coordination service over mutual TLS 1.3 (protocol.md): listens, and gives every stream to attend.ts, upload.ts or download.ts.
 * Holds: who is not admitted any more is cut at once by disconnect(); a stop ends every stream with a reason and lets the last words out.
 * Does not: know rounds; what it learns goes to the Coordinator it serves.
 */
import type { KeyObject } from "node:crypto";
import type { Http2SecureServer } from "node:http2";
import { Server, type ServerCredentials } from "@grpc/grpc-js";
import type { Journal } from "../journal/journal.ts";
import type { Spool } from "../journal/spool.ts";
import { serveAttend } from "./attend.ts";
import type { Realm } from "./certificate-names.ts";
import { coordinationService } from "./chunk-codec.ts";
import type { Coordinator, Session } from "./coordinator.ts";
import { serveDownload } from "./download.ts";
import { TransportFault, toStatus } from "./faults.ts";
import type { CoordinationServer as Handlers } from "./generated/rondo.v1.ts";
import { MOST_MESSAGE_BYTES, OPERATOR_KEEPALIVE } from "./limits.ts";
import { Sessions } from "./sessions.ts";
import { TRANSFERS, Turns } from "./turns.ts";
import { serveUpload } from "./upload.ts";
import { forgetUploads } from "./upload-record.ts";

/**
 * Of one port, of anybody: more are closed as they come, so that strangers cost file handles and memory for so many and no more. Ten times
 * the largest federation, for agents that come back before their old connection is found dead.
 */
const MOST_CONNECTIONS = 2_560;
/** Under way on one connection: of four uploads at once (server-tls.ts "STREAM_WINDOW_BYTES"). */
const CONNECTION_WINDOW_BYTES = 4 * 2 ** 20;

export interface CoordinationOptions {
  /** host:port; port 0 takes a free one */
  address: string;
  realm: Realm;
  /** Ed25519 private key: signs cancellations and receipts, as the controllers sign plans. */
  planKey: KeyObject;
  now?: () => number;
}

export interface CoordinationModules {
  /** ServerTls.mutual() */
  credentials: ServerCredentials;
  coordinator: Coordinator;
  spool: Spool;
  journal: Journal;
  /** An error that is the operator's own; the agent is only told that there was one. */
  onError?: (error: unknown, call: "attend" | "upload" | "download") => void;
}

/** What a stream's handler works with. */
export interface CoordinationParts {
  coordinator: Coordinator;
  spool: Spool;
  journal: Journal;
  sessions: Sessions;
  uploads: Turns;
  downloads: Turns;
  realm: Realm;
  planKey: KeyObject;
  now: () => number;
}

/** @throws TransportFault "Unavailable" when the address cannot be listened on */
export async function startCoordination(
  options: CoordinationOptions,
  modules: CoordinationModules,
): Promise<CoordinationServer> {
  const server = new CoordinationServer(options, modules);
  await server.listen(options.address, modules.credentials);
  return server;
}

export class CoordinationServer {
  readonly #parts: CoordinationParts;
  readonly #server: Server;
  readonly #onError: NonNullable<CoordinationModules["onError"]>;
  #port = 0;
  #stopping = false;

  constructor({ realm, planKey, now = Date.now }: CoordinationOptions, modules: CoordinationModules) {
    const { coordinator, spool, journal } = modules;
    this.#parts = {
      coordinator,
      spool,
      journal,
      sessions: new Sessions(),
      uploads: new Turns(TRANSFERS),
      downloads: new Turns(TRANSFERS),
      realm,
      planKey,
      now,
    };
    this.#onError = modules.onError ?? (() => {});
    this.#server = new Server(serverOptions(MOST_MESSAGE_BYTES));
    this.#server.addService(coordinationService, this.#handlers());
  }

  get port(): number {
    return this.#port;
  }

  sessions(): Session[] {
    return this.#parts.sessions.all();
  }

  session(participant: string): Session | undefined {
    return this.#parts.sessions.get(participant);
  }

  /** Cuts a participant that was suspended, deleted or enrolled anew, its uploads and downloads too. Not connected: nothing happens. */
  disconnect(
    participant: string,
    reason: { code: "Suspended" | "ParticipantUnknown" | "IdentityChanged" | "Disconnected"; message: string },
  ): void {
    this.#parts.sessions.get(participant)?.end(new TransportFault(reason.code, reason.message));
  }

  /** Forgets the uploads of a round that has ended; the files of these roots are the caller's to remove. */
  forgetUploads(federation: string, round: number): Promise<string[]> {
    return forgetUploads(this.#parts.journal, { federation, round });
  }

  async listen(address: string, credentials: ServerCredentials): Promise<void> {
    this.#port = await bind(this.#server, address, credentials);
    widenConnections(this.#server, CONNECTION_WINDOW_BYTES);
  }

  /** Ends every stream with "Stopping", waits at most `graceMs` for them, and closes. */
  async stop(graceMs = 5_000): Promise<void> {
    this.#stopping = true;
    for (const session of this.#parts.sessions.all()) session.end(stopping());
    await shutdown(this.#server, graceMs);
  }

  #handlers(): Handlers {
    return {
      attend: (call) => this.#serve("attend", call, () => serveAttend(call, this.#parts)),
      upload: (call) => this.#serve("upload", call, () => serveUpload(call, this.#parts)),
      download: (call) => this.#serve("download", call, () => serveDownload(call, this.#parts)),
    };
  }

  /** The rim: here every fault becomes the status of its stream. */
  #serve(name: "attend" | "upload" | "download", call: Served, work: () => Promise<void>): void {
    const served = this.#stopping ? Promise.reject(stopping()) : work();
    served.then(
      () => call.end(),
      (error: unknown) => {
        if (!(error instanceof TransportFault) && !call.cancelled) this.#onError(error, name);
        if (!call.destroyed) call.emit("error", toStatus(error));
      },
    );
  }
}

interface Served {
  cancelled: boolean;
  destroyed: boolean;
  end(): unknown;
  emit(event: "error", error: Error): boolean;
}

function stopping(): TransportFault {
  return new TransportFault("Stopping", "The operator is stopping; the agent connects again by itself");
}

export function serverOptions(mostMessageBytes: number): Record<string, number> {
  return {
    "grpc.max_receive_message_length": mostMessageBytes,
    "grpc.max_send_message_length": mostMessageBytes,
    ...OPERATOR_KEEPALIVE,
  };
}

export async function bind(server: Server, address: string, credentials: ServerCredentials): Promise<number> {
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(address, credentials, (error, bound) => {
      if (error)
        reject(new TransportFault("Unavailable", `The address ${address} cannot be listened on: ${error.message}`));
      else resolve(bound);
    });
  });
  for (const listening of listeners(server)) listening.maxConnections = MOST_CONNECTIONS;
  return port;
}

/**
 * grpc-js has the option "grpc-node.flow_control_window" for clients alone, and Node's 64 KiB for a whole connection are 1.3 MB/s at
 * 50 ms.
 */
function widenConnections(server: Server, bytes: number): void {
  for (const listening of listeners(server)) {
    listening.on("session", (session) => session.setLocalWindowSize(bytes));
  }
}

/** What grpc-js has no options for is set on Node's own servers. Should a later version keep them elsewhere, all goes on, slower and unlimited. */
function listeners(server: Server): Http2SecureServer[] {
  const { http2Servers } = server as unknown as { http2Servers?: Map<Http2SecureServer, unknown> };
  return [...(http2Servers?.keys() ?? [])];
}

/** Resolves at the latest when `graceMs` are over: what is open then is cut, and a peer that does not answer is not waited for. */
export function shutdown(server: Server, graceMs: number): Promise<void> {
  return new Promise((resolve) => {
    const force = setTimeout(() => {
      server.forceShutdown();
      // Not by tryShutdown's word: a socket that is being closed waits for its peer, and one silent agent would hold up the stop until
      // kubelet kills the process, its Lease still held.
      setImmediate(resolve);
    }, graceMs);
    server.tryShutdown(() => {
      clearTimeout(force);
      resolve();
    });
  });
}
