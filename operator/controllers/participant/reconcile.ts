/**
 * One Participant: this controller watches participants and their streams to say who is there, and cuts off who may be no longer.
 * Holds: a participant that is suspended, deleted or to be enrolled anew loses its stream at once, not at its next message.
 */
import { isDeepStrictEqual } from "node:util";
import { CONNECTED, type Condition, ENROLLED, setCondition } from "../../api/conditions.ts";
import { type Participant, type ParticipantStatus, withoutLastSeen } from "../../api/participant.ts";
import { again, DONE, type Result } from "../../kube/controller.ts";
import { PARTICIPANTS } from "../../kube/resources.ts";
import type { CoordinationServer } from "../../transport/server.ts";
import type { Context } from "../context.ts";
import type { OperatorEnrolmentOffice } from "../enrolment-office.ts";
import { identityOf } from "../selector.ts";

/** How old `lastSeen` of a connected participant may become: fresh enough for people, rare enough for a thousand sites. */
const LAST_SEEN_MS = 10 * 60_000;

export class ParticipantReconciler {
  readonly #context: Context;
  readonly #office: OperatorEnrolmentOffice;
  readonly #server: () => Pick<CoordinationServer, "disconnect"> | undefined;
  readonly #identities = new Map<string, string>();

  constructor(
    context: Context,
    office: OperatorEnrolmentOffice,
    server: () => Pick<CoordinationServer, "disconnect"> | undefined,
  ) {
    this.#context = context;
    this.#office = office;
    this.#server = server;
  }

  async reconcile(name: string): Promise<Result> {
    const participant = this.#context.objects.participant(name);
    this.#cutOff(name, participant);
    if (!participant || participant.metadata.deletionTimestamp) return DONE;
    const nowMs = this.#context.now();
    const status = this.#statusOf(participant, nowMs);
    if (isNews(participant.status, status)) {
      const { namespace } = participant.metadata;
      const written = await this.#context.client.applyStatus(PARTICIPANTS, { metadata: { name, namespace }, status });
      this.#context.caches.participants.put(written);
      this.#tell(participant, status);
    }
    return status.connected ? again(LAST_SEEN_MS) : DONE;
  }

  #cutOff(name: string, participant: Participant | undefined): void {
    const server = this.#server();
    const gone = !participant || participant.metadata.deletionTimestamp !== undefined;
    if (gone) {
      server?.disconnect(name, { code: "ParticipantUnknown", message: "this Participant was deleted" });
    } else if (participant.spec.suspended) {
      server?.disconnect(name, { code: "Suspended", message: "this Participant is suspended" });
    } else {
      const identity = identityOf(participant) ?? "";
      const before = this.#identities.get(name);
      // Without an identity before, whoever is connected now came with this one.
      if (before && before !== identity)
        server?.disconnect(name, { code: "IdentityChanged", message: "this Participant is to be enrolled anew" });
      this.#identities.set(name, identity);
    }
    if (gone) this.#identities.delete(name);
  }

  #statusOf(participant: Participant, nowMs: number): ParticipantStatus {
    const { name, generation } = participant.metadata;
    const presence = this.#context.attendance.presence(name);
    const endMs = this.#office.certificateEndMs(name);
    const before = participant.status;
    const lastSeen = presence ? new Date(presence.lastSeenMs).toISOString() : before.lastSeen;
    return {
      observedGeneration: generation,
      connected: presence?.connected ?? false,
      ...(lastSeen !== undefined && { lastSeen }),
      ...((presence?.agentVersion ?? before.agentVersion) && {
        agentVersion: (presence?.agentVersion ?? before.agentVersion)!.slice(0, 64),
      }),
      ...((presence?.capacity ?? before.capacity) && { capacity: presence?.capacity ?? before.capacity }),
      ...(endMs !== undefined && { certificate: { notAfter: new Date(endMs).toISOString() } }),
      conditions: conditionsOf(participant, presence?.connected ?? false, { generation, nowMs }),
    };
  }

  #tell(participant: Participant, after: ParticipantStatus): void {
    if ((participant.status.connected ?? false) === after.connected) return;
    const reason = after.connected ? "Connected" : "Disconnected";
    const note = after.connected ? "the agent's stream is open" : "the agent's stream is closed";
    this.#context.events.record(participant, { type: "Normal", reason, note });
  }
}

function conditionsOf(
  participant: Participant,
  connected: boolean,
  { generation, nowMs }: { generation: number; nowMs: number },
): Condition[] {
  const observedGeneration = generation;
  const { suspended } = participant.spec;
  const enrolled = identityOf(participant) !== undefined;
  const conditions = setCondition(
    participant.status.conditions ?? [],
    enrolled
      ? {
          type: ENROLLED,
          status: "True",
          reason: "Enrolled",
          message: "an identity key is on record",
          observedGeneration,
        }
      : {
          type: ENROLLED,
          status: "False",
          reason: "NotEnrolled",
          message: "run rondo invite and give the invitation to the site",
          observedGeneration,
        },
    nowMs,
  );
  const reason = connected ? "Connected" : suspended ? "Suspended" : "Disconnected";
  const message = connected
    ? "the agent's stream is open"
    : suspended
      ? "spec.suspended is true"
      : "no stream of this participant's agent is open";
  return setCondition(
    conditions,
    { type: CONNECTED, status: connected ? "True" : "False", reason, message, observedGeneration },
    nowMs,
  );
}

/** A later `lastSeen` alone is news only after a while. */
function isNews(before: ParticipantStatus, after: ParticipantStatus): boolean {
  if (!isDeepStrictEqual(withoutLastSeen(before), withoutLastSeen(after))) return true;
  const ageMs = Date.parse(after.lastSeen ?? "") - Date.parse(before.lastSeen ?? "");
  return after.lastSeen !== before.lastSeen && !(ageMs < LAST_SEEN_MS);
}
