/**
 * One living connection of the agent: the Attend stream on its channel, from the challenge to its end.
 * Holds: no plan and no cancellation is handed on before its signature was verified with the plan key of the invitation.
 * Does not: connect again (client.ts does).
 */
import type { KeyObject } from "node:crypto";
import type { ClientDuplexStream } from "@grpc/grpc-js";
import { coordinationChannel } from "./channel.ts";
import type { Credential } from "./credential.ts";
import { bodyHash, openMessage, openSigned, seal } from "./envelope.ts";
import { fromServiceError, TransportFault } from "./faults.ts";
import {
  type Acknowledgement,
  type AgentMessage,
  Attending,
  Cancellation,
  type CoordinationClient,
  type DrawStep,
  type OperatorMessage,
  type ProtocolStep,
  type Signed,
} from "./generated/rondo.v1.ts";
import { publicKeyFromRaw } from "./identity.ts";
import { hasLeft, Inbox } from "./inbox.ts";
import type { Invitation } from "./invitation.ts";
import { MOST_MESSAGE_BYTES, MOST_REPORT_BYTES, OPENING_MS } from "./limits.ts";
import { checkWork } from "./reports.ts";

export interface ConnectionHandlers {
  plan(signed: Signed, clockSkewMs: number): void;
  cancelled(cancellation: Cancellation): void;
  step(step: ProtocolStep): void;
  draw(step: DrawStep): void;
  acknowledged(acknowledgement: Acknowledgement): void;
}

export interface ConnectionParts {
  invitation: Invitation;
  identity: KeyObject;
  now: () => number;
}

export class Connection {
  readonly channel: CoordinationClient;
  readonly challenge: Uint8Array;
  readonly #call: ClientDuplexStream<AgentMessage, OperatorMessage>;
  readonly #inbox: Inbox<OperatorMessage>;
  readonly #parts: ConnectionParts;
  readonly #ended = new AbortController();

  private constructor(opened: {
    channel: CoordinationClient;
    call: ClientDuplexStream<AgentMessage, OperatorMessage>;
    inbox: Inbox<OperatorMessage>;
    challenge: Uint8Array;
    parts: ConnectionParts;
  }) {
    this.channel = opened.channel;
    this.challenge = opened.challenge;
    this.#call = opened.call;
    this.#inbox = opened.inbox;
    this.#parts = opened.parts;
  }

  /** Connects, answers the challenge and waits until the operator has taken the answer. @throws TransportFault */
  static async open(
    parts: ConnectionParts,
    {
      credential,
      introduce,
      signal,
    }: { credential: Credential; introduce: () => Promise<Introduction>; signal: AbortSignal },
  ): Promise<Connection> {
    const { invitation, identity } = parts;
    const channel = coordinationChannel(invitation, credential);
    const call = channel.attend();
    const inbox = new Inbox<OperatorMessage>(call);
    const abort = () => inbox.fail(new TransportFault("Stopped", "The agent is stopping"));
    signal.addEventListener("abort", abort, { once: true });
    try {
      const challenge = await expectMessage(inbox, "challenge");
      const attending = { challenge, participant: invitation.participant, ...(await introduce()) };
      const signed = seal("attend", Attending.encode(attending).finish(), identity);
      call.write({ signed }, hasLeft({ signed }));
      const { bodySha256 } = await expectMessage(inbox, "acknowledgement");
      if (!Buffer.from(bodySha256).equals(bodyHash(signed.body))) {
        throw new TransportFault("MessageInvalid", "The operator acknowledged what was not said");
      }
      return new Connection({ channel, call, inbox, challenge, parts });
    } catch (error) {
      call.cancel();
      channel.close();
      throw fromServiceError(error, invitation.endpoint);
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  /** Aborted when the connection has ended. */
  get ended(): AbortSignal {
    return this.#ended.signal;
  }

  get #participant(): string {
    return this.#parts.invitation.participant;
  }

  send(signed: Signed): void {
    if (!this.#ended.signal.aborted) this.#call.write({ signed }, hasLeft({ signed }));
  }

  /** Hands on what arrives until the connection ends; resolves only by end(). @throws TransportFault why the other side ended it */
  async read(handlers: ConnectionHandlers): Promise<void> {
    try {
      for (let next = await this.#inbox.next(); next; next = await this.#inbox.next()) this.#hand(next, handlers);
      throw new TransportFault("Unavailable", "The operator ended the connection");
    } catch (error) {
      if (error === ENDED_BY_US) return;
      throw fromServiceError(error, this.#parts.invitation.endpoint);
    } finally {
      this.#ended.abort();
      this.#call.cancel();
      this.channel.close();
    }
  }

  end(): void {
    this.#inbox.fail(ENDED_BY_US);
  }

  #hand({ sentAtMs, message }: OperatorMessage, handlers: ConnectionHandlers): void {
    const planKey = planKeyOf(this.#parts.invitation);
    switch (message?.$case) {
      case "plan":
        openSigned(message.value, { kind: "plan", publicKey: planKey, mostBytes: MOST_MESSAGE_BYTES });
        handlers.plan(message.value, this.#parts.now() - sentAtMs);
        return;
      case "cancellation":
        handlers.cancelled(
          openMessage(
            message.value,
            { kind: "cancel", publicKey: planKey, mostBytes: MOST_REPORT_BYTES },
            Cancellation,
          ),
        );
        return;
      // Not signed: of what the operator relays, the peers' own signatures protect what matters.
      case "step":
        checkWork(message.value.work, { participant: this.#participant, step: "step", purpose: "delta" });
        handlers.step(message.value);
        return;
      case "draw":
        checkWork(message.value.work, { participant: this.#participant, step: "draw", purpose: "draw" });
        handlers.draw(message.value);
        return;
      case "acknowledgement":
        handlers.acknowledged(message.value);
        return;
      default:
        // A newer operator's message: what this agent does not know it cannot answer.
        return;
    }
  }
}

/** What the agent says of itself when it attends. */
export type Introduction = Pick<Attending, "agentVersion" | "capacity" | "open">;

const ENDED_BY_US = new Error("ended by the agent itself");

export function planKeyOf({ planKey }: Invitation): KeyObject {
  return publicKeyFromRaw(Buffer.from(planKey, "base64"));
}

type MessageOf<C> = Extract<NonNullable<OperatorMessage["message"]>, { $case: C }>["value"];

async function expectMessage<C extends "challenge" | "acknowledgement">(
  inbox: Inbox<OperatorMessage>,
  expected: C,
): Promise<MessageOf<C>> {
  const next = await inbox.next(OPENING_MS);
  if (!next) throw new TransportFault("Unavailable", "The operator ended the connection before it began");
  if (next.message?.$case !== expected)
    throw new TransportFault("MessageInvalid", "The operator began otherwise than agreed");
  return next.message.value as MessageOf<C>;
}
