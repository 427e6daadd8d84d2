/** Bytes of one session on the wire, by the transport's own encoders, envelope and framing included. */

import type { Plan } from "../../../operator/round/plan.ts";
import type { CoordinatorMessage, ParticipantMessage } from "../../../operator/secagg/messages.ts";
import {
  AgentMessage,
  OperatorMessage,
  UploadChunk,
  UploadMessage,
  UploadOpening,
} from "../../../operator/transport/generated/rondo.v1.ts";
import { encodeReport } from "../../../operator/transport/reports.ts";

const SIGNATURE = new Uint8Array(64);
const HASH = new Uint8Array(32);
/** Length and compression flag before each gRPC message. */
const GRPC_PREFIX = 5;

export class Wire {
  readonly #plan: Plan;
  readonly #members: number;
  #protocolBytes = 0;
  #vectorBytes = 0;

  constructor(plan: Plan, members: number) {
    this.#plan = plan;
    this.#members = members;
  }

  /** Of a participant, up and down, on average: everything but the vector itself. */
  protocolBytesEach(): number {
    return this.#protocolBytes / this.#members;
  }

  vectorBytesEach(): number {
    return this.#vectorBytes / this.#members;
  }

  sent(message: ParticipantMessage): void {
    const kind = message.$case;
    const work = this.#work(kind);
    const body =
      message.$case === "advertise"
        ? { work, planHash: HASH, advertisement: message.value }
        : { work, ...message.value };
    const encoded = encodeReport({ kind, body } as never);
    const signed = { kind, body: encoded, signature: SIGNATURE };
    this.#count(AgentMessage.encode({ signed }).finish());
    // The operator's acknowledgement.
    const acknowledgement = { bodySha256: HASH, reason: "", message: "" };
    this.#fromOperator({ $case: "acknowledgement", value: acknowledgement });
  }

  received(message: CoordinatorMessage): void {
    this.#fromOperator({ $case: "step", value: { work: this.#work("step"), step: message } });
  }

  uploaded(leaves: Uint8Array[], byteLength: number): void {
    this.#vectorBytes += byteLength;
    const manifest = { work: this.#work("upload"), planHash: HASH, byteLength, leaves, inputSignature: SIGNATURE };
    const body = UploadOpening.encode({ challenge: HASH, manifest }).finish();
    const opening = { kind: "upload", body, signature: SIGNATURE };
    this.#count(UploadMessage.encode({ message: { $case: "opening", value: opening } }).finish());
    for (let i = 0; i < leaves.length; i++) {
      const framed = UploadChunk.encode({ offset: i * 2 ** 20, data: new Uint8Array(0) }).finish();
      this.#protocolBytes += framed.length + 2 * 4 + GRPC_PREFIX; // lengths of chunk and message, four bytes each
    }
  }

  #fromOperator(message: OperatorMessage["message"]): void {
    this.#count(OperatorMessage.encode({ sentAtMs: Date.now(), message }).finish());
  }

  #work(step: string) {
    const { federation, round, attempt, purpose } = this.#plan;
    return { federation, round, attempt, purpose, participant: "site-001", step };
  }

  #count(bytes: Uint8Array): void {
    this.#protocolBytes += bytes.length + GRPC_PREFIX;
  }
}
