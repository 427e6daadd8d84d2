/**
 * Reports that wait for their acknowledgement; everything unacknowledged is said again on a new connection, in its order (protocol.md).
 * Holds: memory is bounded, because a newer status of a work takes the place of an older one that still waits.
 * Does not: outlive the process; what must be said after a restart is in the agent's ledger.
 */
import type { KeyObject } from "node:crypto";
import type { AgentReport } from "./coordinator.ts";
import { bodyHash, seal } from "./envelope.ts";
import { isTransportCode, TransportFault } from "./faults.ts";
import type { Acknowledgement, Signed } from "./generated/rondo.v1.ts";
import { encodeReport } from "./reports.ts";

interface Waiting {
  signed: Signed;
  statusOf: string | undefined;
  promise: Promise<void>;
  resolve: () => void;
  reject: (fault: TransportFault) => void;
}

export class Outbox {
  readonly #identity: KeyObject;
  readonly #waiting = new Map<string, Waiting>();

  constructor(identity: KeyObject) {
    this.#identity = identity;
  }

  /** @returns the message to send now, and when it was acknowledged; the same report again is the same message */
  add(report: AgentReport): { signed: Signed; acknowledged: Promise<void> } {
    const signed = seal(report.kind, encodeReport(report), this.#identity);
    const key = keyOf(bodyHash(signed.body));
    const known = this.#waiting.get(key);
    if (known) return { signed: known.signed, acknowledged: known.promise };
    const statusOf = report.kind === "status" ? JSON.stringify(report.body.work) : undefined;
    if (statusOf !== undefined) this.#supersede(statusOf);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiting.set(key, { signed, statusOf, promise, resolve, reject });
    return { signed, acknowledged: promise };
  }

  /** Everything that has no answer yet, oldest first. */
  unacknowledged(): Signed[] {
    return [...this.#waiting.values()].map(({ signed }) => signed);
  }

  /** Never said again: what its sender may not say any more (a session that was aborted answers nothing). Answered already: nothing happens. */
  withdraw({ body }: Signed): void {
    const key = keyOf(bodyHash(body));
    this.#waiting
      .get(key)
      ?.reject(new TransportFault("Stopped", "The report was withdrawn before it was acknowledged"));
    this.#waiting.delete(key);
  }

  settle({ bodySha256, reason, message }: Acknowledgement): void {
    const key = keyOf(bodySha256);
    const waiting = this.#waiting.get(key);
    this.#waiting.delete(key);
    if (reason === "") waiting?.resolve();
    else waiting?.reject(new TransportFault(isTransportCode(reason) ? reason : "NotExpected", message));
  }

  close(): void {
    for (const { reject } of this.#waiting.values()) reject(new TransportFault("Stopped", "The agent is stopping"));
    this.#waiting.clear();
  }

  #supersede(statusOf: string): void {
    for (const [key, waiting] of this.#waiting) {
      if (waiting.statusOf !== statusOf) continue;
      this.#waiting.delete(key);
      waiting.resolve();
    }
  }
}

function keyOf(hash: Uint8Array): string {
  return Buffer.from(hash).toString("hex");
}
