/**
 * The operator's side of Attend: challenge, answer, then reports in and plans, steps, cancellations and acknowledgements out.
 * Holds: nothing is handed to the coordinator before the challenge was answered with the identity's signature; an acknowledgement goes
 * only after the coordinator has journalled; a report that it refuses is answered with the refusal and not asked for again.
 */
import { randomBytes } from "node:crypto";
import type { ServerDuplexStream } from "@grpc/grpc-js";
import { admit, holderOf, type Speaker, speakerOf } from "./authenticate.ts";
import { bodyHash, openMessage, openSigned } from "./envelope.ts";
import { TransportFault } from "./faults.ts";
import { type AgentMessage, Attending, type OperatorMessage, type Signed } from "./generated/rondo.v1.ts";
import { hasLeft, Inbox } from "./inbox.ts";
import { MOST_ATTENDING_BYTES, MOST_SENTENCE_CHARACTERS, OPENING_MS } from "./limits.ts";
import { decodeReport, isReportKind, mostBytesOf } from "./reports.ts";
import type { CoordinationParts } from "./server.ts";
import { AttendSession } from "./sessions.ts";

export type AttendCall = ServerDuplexStream<AgentMessage, OperatorMessage>;

/** Serves one stream until it ends. @throws TransportFault with which the stream is to end */
export async function serveAttend(call: AttendCall, parts: CoordinationParts): Promise<void> {
  const inbox = new Inbox<AgentMessage>(call);
  const { now, realm, coordinator, sessions } = parts;
  const challenge = randomBytes(32);
  const holder = holderOf(call, realm);
  const speaker = speakerOf(holder, { coordinator, nowMs: now() });
  const outlet = {
    write: (message: OperatorMessage) => void call.write(message, hasLeft(message)),
    unread: () => call.writableLength,
  };
  outlet.write({ sentAtMs: now(), message: { $case: "challenge", value: challenge } });

  const first = await inbox.next(OPENING_MS);
  if (!first) return;
  const attending = openAttending(first.signed, speaker, challenge);
  // Asked again: the Participant may have been suspended while the challenge was under way.
  admit(holder, { coordinator, nowMs: now() });

  const session = new AttendSession(attending, { outlet, planKey: parts.planKey, now });
  session.onEnd((fault) => inbox.fail(fault));
  const expiry = atExpiry(speaker.notAfterMs - now(), () =>
    session.end(new TransportFault("CertificateExpired", "The participant's certificate has ended")),
  );
  sessions.add(session);
  try {
    session.write(acknowledgement(first.signed!.body));
    coordinator.attended(session);
    for (let message = await inbox.next(); message; message = await inbox.next()) {
      // And at each message: whoever cuts the streams of the suspended may be slower than they speak.
      admit(holder, { coordinator, nowMs: now() });
      session.write(await answer(message.signed, speaker, parts));
    }
  } finally {
    clearTimeout(expiry);
    session.end(new TransportFault("Disconnected", "The agent's connection ended"));
    if (sessions.remove(session)) coordinator.left(session);
  }
}

/** setTimeout holds at most 2^31-1 ms; a certificate that lives longer than that is renewed long before. */
function atExpiry(inMs: number, end: () => void): NodeJS.Timeout | undefined {
  return inMs < 2 ** 31 ? setTimeout(end, inMs) : undefined;
}

function openAttending(signed: Signed | undefined, speaker: Speaker, challenge: Uint8Array): Attending {
  const expected = { kind: "attend", publicKey: speaker.identity, mostBytes: MOST_ATTENDING_BYTES } as const;
  const attending = openMessage(signed, expected, Attending);
  if (!Buffer.from(attending.challenge).equals(challenge)) {
    throw new TransportFault("ChallengeUnknown", "The agent answered another challenge");
  }
  if (attending.participant !== speaker.participant) {
    throw new TransportFault("MessageInvalid", "The agent's answer names another participant than its certificate");
  }
  if (attending.agentVersion.length > 64 || (attending.capacity?.gpuResourceName.length ?? 0) > 253) {
    throw new TransportFault("MessageInvalid", "The agent's version or GPU resource name is too long");
  }
  return attending;
}

async function answer(signed: Signed | undefined, speaker: Speaker, parts: CoordinationParts) {
  const kind = signed?.kind ?? "";
  if (!isReportKind(kind)) throw new TransportFault("MessageInvalid", "An agent's message is of no known kind");
  const body = openSigned(signed, { kind, publicKey: speaker.identity, mostBytes: mostBytesOf(kind) });
  try {
    await parts.coordinator.received(speaker.participant, decodeReport(kind, body, speaker.participant));
    return acknowledgement(body);
  } catch (error) {
    // Anything else is the operator's own trouble: the stream ends, and the agent says it again.
    if (!(error instanceof TransportFault) || error.retry !== "never") throw error;
    return acknowledgement(body, error);
  }
}

function acknowledgement(body: Uint8Array, refusal?: TransportFault) {
  const value = {
    bodySha256: bodyHash(body),
    reason: refusal?.code ?? "",
    message: refusal?.message.slice(0, MOST_SENTENCE_CHARACTERS) ?? "",
  };
  return { $case: "acknowledgement", value } as const;
}
