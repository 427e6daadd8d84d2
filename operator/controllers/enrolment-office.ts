/**
 * Join tokens (protocol.md "Join tokens"): the first identity that shows one owns it, and the same request again gets the same answer.
 * Holds: only the SHA-256 of a token is known here (an annotation of the Participant); its use is journalled (space "enrolments")
 *   before the identity is written, so that two sites that race with one token cannot both win.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { JOIN_TOKEN_EXPIRES_ANNOTATION, JOIN_TOKEN_HASH_ANNOTATION, type Participant } from "../api/participant.ts";
import { JournalFault } from "../journal/journal.ts";
import { isKubeFault } from "../kube/faults.ts";
import { PARTICIPANTS } from "../kube/resources.ts";
import type { EnrolmentOffice, Member } from "../transport/coordinator.ts";
import { TransportFault } from "../transport/faults.ts";
import type { Context } from "./context.ts";

const USES = "enrolments";
export const CERTIFICATES = "certificates";
/** The one manager that may set Participant.spec.identity (api.md). */
const FIELD_MANAGER = "rondo-enrolment";

export class OperatorEnrolmentOffice implements EnrolmentOffice {
  readonly #context: Context;
  readonly #memberOf: (participant: string) => Member | undefined;
  readonly #certificates = new Map<string, number>();
  readonly #wakeParticipant: (name: string) => void;

  constructor(
    context: Context,
    member: (participant: string) => Member | undefined,
    wakeParticipant: (name: string) => void,
  ) {
    this.#context = context;
    this.#memberOf = member;
    this.#wakeParticipant = wakeParticipant;
  }

  async load(): Promise<void> {
    for (const { key, value } of await this.#context.journal.entries(CERTIFICATES))
      this.#certificates.set(key, Number(Buffer.from(value).toString("utf8")));
  }

  member(participant: string): Member | undefined {
    return this.#memberOf(participant);
  }

  async enrol(participant: string, tokenSha256: Uint8Array, identity: Uint8Array): Promise<void> {
    try {
      await this.#enrol(participant, tokenSha256, identity);
      this.#context.metrics.enrolled("enrolled");
      this.#context.log.info({ participant }, "participant enrolled");
    } catch (error) {
      this.#context.metrics.enrolled("refused");
      if (error instanceof TransportFault)
        this.#context.log.warn({ participant, code: error.code }, "enrolment refused");
      throw error;
    }
  }

  issued(participant: string, notAfterMs: number): void {
    this.#certificates.set(participant, notAfterMs);
    const value = Buffer.from(String(notAfterMs));
    this.#context.journal
      .commit([{ put: { space: CERTIFICATES, key: participant, value } }])
      .catch((error: unknown) => {
        // Only what status shows; the next certificate tells it again.
        this.#context.log.warn({ participant, err: error }, "certificate's end not journalled");
      });
    this.#wakeParticipant(participant);
  }

  /** undefined: none was issued yet. */
  certificateEndMs(participant: string): number | undefined {
    return this.#certificates.get(participant);
  }

  async #enrol(name: string, tokenSha256: Uint8Array, identity: Uint8Array): Promise<void> {
    const participant = this.#context.objects.participant(name);
    if (!participant || participant.metadata.deletionTimestamp)
      throw new TransportFault("ParticipantUnknown", `there is no Participant "${name}" in this namespace`);
    if (participant.spec.suspended) throw new TransportFault("Suspended", `Participant "${name}" is suspended`);
    const token = Buffer.from(tokenSha256).toString("hex");
    const key = `${participant.metadata.uid}/${token}`;
    // The enrolment too: when it was raised because a key was stolen, the thief has that key's token as well.
    const use = Buffer.from(`${participant.spec.enrolment} ${Buffer.from(identity).toString("base64")}`);
    const owner = await this.#context.journal.get(USES, key);
    if (!owner) await this.#firstUse(participant, token, key, use);
    else if (!use.equals(owner)) throw used();
    await this.#writeIdentity(participant, Buffer.from(identity).toString("base64"));
  }

  async #firstUse(participant: Participant, token: string, key: string, use: Buffer): Promise<void> {
    const annotations = participant.metadata.annotations ?? {};
    const expected = annotations[JOIN_TOKEN_HASH_ANNOTATION];
    if (!expected || !sameText(expected, token))
      throw new TransportFault("TokenUnknown", "this join token was not issued for this participant, or was replaced");
    const expiresMs = Date.parse(annotations[JOIN_TOKEN_EXPIRES_ANNOTATION] ?? "");
    if (!(this.#context.now() < expiresMs))
      throw new TransportFault("TokenExpired", "this join token has expired; ask for another invitation");
    try {
      await this.#context.journal.commit([{ insert: { space: USES, key, value: use } }]);
    } catch (error) {
      if (!(error instanceof JournalFault) || error.code !== "Exists") throw error;
      const owner = await this.#context.journal.get(USES, key);
      if (!owner || !use.equals(owner)) throw used();
    }
  }

  async #writeIdentity(participant: Participant, ed25519: string): Promise<void> {
    const { name, namespace } = participant.metadata;
    const { enrolment, identity } = participant.spec;
    if (identity?.enrolment === enrolment && identity.ed25519 === ed25519) return;
    const spec = { identity: { ed25519, enrolment } };
    try {
      const written = await this.#context.client.apply(
        PARTICIPANTS,
        { metadata: { name, namespace }, spec },
        { fieldManager: FIELD_MANAGER },
      );
      this.#context.caches.participants.put(written);
    } catch (error) {
      if (!isKubeFault(error, "Invalid")) throw error;
      throw new TransportFault(
        "TokenUsed",
        `Participant "${name}" is enrolled with another key; raise spec.enrolment to let the site enrol anew`,
      );
    }
  }
}

function used(): TransportFault {
  return new TransportFault("TokenUsed", "this join token was used before; ask for another invitation");
}

/** In constant time: the length is public, the content is what an attacker would guess at. */
function sameText(a: string, b: string): boolean {
  const digest = (text: string) => createHash("sha256").update(text.toLowerCase()).digest();
  return timingSafeEqual(digest(a), digest(b));
}
