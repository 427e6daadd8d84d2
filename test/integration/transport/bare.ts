/**
 * A participant that says what it likes: enrolled, attending, and then on its own at the wire, without the client that keeps it honest.
 */
import { Connection, type ConnectionHandlers } from "../../../operator/transport/connection.ts";
import { enrol } from "../../../operator/transport/enrol-client.ts";
import { seal } from "../../../operator/transport/envelope.ts";
import { fromServiceError } from "../../../operator/transport/faults.ts";
import {
  type Acknowledgement,
  type Manifest,
  type UploadMessage,
  UploadOpening,
  type UploadReply,
} from "../../../operator/transport/generated/rondo.v1.ts";
import { generateIdentity } from "../../../operator/transport/identity.ts";
import { Inbox } from "../../../operator/transport/inbox.ts";
import type { TestOperator } from "./operator.ts";

export type Identity = ReturnType<typeof generateIdentity>;

export interface Bare {
  connection: Connection;
  identity: Identity;
  acknowledgements: Acknowledgement[];
  /** Why the operator ended the stream; undefined when close() did. */
  ended: Promise<unknown>;
  close(): Promise<void>;
}

export async function bareConnection(
  operator: TestOperator,
  { participant = "clinic-a", handlers = {} }: { participant?: string; handlers?: Partial<ConnectionHandlers> } = {},
): Promise<Bare> {
  const identity = generateIdentity();
  const invitation = operator.invite(participant);
  const parts = { invitation, identity: identity.privateKey, now: Date.now };
  const credential = await enrol(parts);
  const introduce = async () => ({ agentVersion: "0", capacity: undefined, open: [] });
  const connection = await Connection.open(parts, { credential, introduce, signal: new AbortController().signal });
  const acknowledgements: Acknowledgement[] = [];
  const ended = connection
    .read({
      plan: () => {},
      cancelled: () => {},
      step: () => {},
      draw: () => {},
      acknowledged: (acknowledgement) => acknowledgements.push(acknowledgement),
      ...handlers,
    })
    .then(
      () => undefined,
      (fault: unknown) => fault,
    );
  const close = async () => {
    connection.end();
    await ended;
  };
  return { connection, identity, acknowledgements, ended, close };
}

/** @returns how many replies came before the operator ended it well. @throws the fault with which it ended it */
export async function rawUpload(
  operator: TestOperator,
  messages: (challenge: Uint8Array, identity: Identity) => UploadMessage[],
): Promise<number> {
  const { connection, identity, close } = await bareConnection(operator);
  const call = connection.channel.upload();
  const inbox = new Inbox<UploadReply>(call);
  for (const message of messages(connection.challenge, identity)) call.write(message);
  try {
    for (let n = 0; ; n += 1) {
      const reply = await inbox.next(5_000);
      if (!reply) return n;
    }
  } catch (error) {
    throw fromServiceError(error, "the test's operator");
  } finally {
    call.cancel();
    await close();
  }
}

export function openingOf(challenge: Uint8Array, manifest: Manifest, identity: Identity): UploadMessage {
  const body = UploadOpening.encode({ challenge, manifest }).finish();
  return { message: { $case: "opening", value: seal("upload", body, identity.privateKey) } };
}

export function chunkOf(offset: number, data: Uint8Array): UploadMessage {
  return { message: { $case: "chunk", value: { offset, data } } };
}
