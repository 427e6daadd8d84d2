/**
 * The living Attend streams, one per participant (coordinator.ts "Session").
 * Holds: a newer stream replaces the older; with a stream end the uploads and downloads that were opened under its challenge.
 */
import type { KeyObject } from "node:crypto";
import type { Session } from "./coordinator.ts";
import { seal } from "./envelope.ts";
import { TransportFault } from "./faults.ts";
import {
  type Attending,
  Cancellation,
  type DrawStep,
  type OperatorMessage,
  type ProtocolStep,
  type Signed,
  type Work,
} from "./generated/rondo.v1.ts";
import { MOST_SENTENCE_CHARACTERS } from "./limits.ts";

/** An agent that leaves this many messages unread is stuck; it is cut, and everything is said again when it comes back. */
export const MOST_UNREAD_MESSAGES = 64;

export interface Outlet {
  write(message: OperatorMessage): void;
  unread(): number;
}

export class AttendSession implements Session {
  readonly participant: string;
  readonly attending: Attending;
  readonly #outlet: Outlet;
  readonly #planKey: KeyObject;
  readonly #now: () => number;
  readonly #onEnd = new Set<(fault: TransportFault) => void>();
  #ended: TransportFault | undefined;

  constructor(
    attending: Attending,
    { outlet, planKey, now }: { outlet: Outlet; planKey: KeyObject; now: () => number },
  ) {
    this.participant = attending.participant;
    this.attending = attending;
    this.#outlet = outlet;
    this.#planKey = planKey;
    this.#now = now;
  }

  sendPlan(plan: Signed): void {
    this.write({ $case: "plan", value: plan });
  }

  sendCancellation(work: Work, reason: string, message: string): void {
    const body = Cancellation.encode({
      work: { ...work, step: "cancel" },
      reason,
      message: message.slice(0, MOST_SENTENCE_CHARACTERS),
    }).finish();
    this.write({ $case: "cancellation", value: seal("cancel", body, this.#planKey) });
  }

  sendStep(step: ProtocolStep): void {
    this.write({ $case: "step", value: { ...step, work: step.work && { ...step.work, step: "step" } } });
  }

  sendDraw(step: DrawStep): void {
    this.write({ $case: "draw", value: { ...step, work: step.work && { ...step.work, step: "draw" } } });
  }

  /** Into the void once the session has ended: whoever sends learns by left(), and sends again in the next session. */
  write(message: NonNullable<OperatorMessage["message"]>): void {
    if (this.#ended) return;
    if (this.#outlet.unread() > MOST_UNREAD_MESSAGES) {
      this.end(new TransportFault("TimedOut", "The agent does not read what it is sent"));
      return;
    }
    this.#outlet.write({ sentAtMs: this.#now(), message });
  }

  /** @returns a function that takes the listener away; called at once when the session has ended already */
  onEnd(listener: (fault: TransportFault) => void): () => void {
    if (this.#ended) listener(this.#ended);
    else this.#onEnd.add(listener);
    return () => this.#onEnd.delete(listener);
  }

  end(fault: TransportFault): void {
    if (this.#ended) return;
    this.#ended = fault;
    for (const listener of [...this.#onEnd]) listener(fault);
    this.#onEnd.clear();
  }
}

export class Sessions {
  readonly #byParticipant = new Map<string, AttendSession>();

  all(): AttendSession[] {
    return [...this.#byParticipant.values()];
  }

  get(participant: string): AttendSession | undefined {
    return this.#byParticipant.get(participant);
  }

  /** Makes this the session of its participant. */
  add(session: AttendSession): void {
    const older = this.#byParticipant.get(session.participant);
    this.#byParticipant.set(session.participant, session);
    older?.end(new TransportFault("Replaced", "A newer connection of the same participant took this one's place"));
  }

  /** @returns whether it was the session of its participant, and not replaced */
  remove(session: AttendSession): boolean {
    if (this.#byParticipant.get(session.participant) !== session) return false;
    this.#byParticipant.delete(session.participant);
    return true;
  }

  /** The living session whose challenge an opening message carries. @throws TransportFault "ChallengeUnknown" */
  byChallenge(participant: string, challenge: Uint8Array): AttendSession {
    const session = this.#byParticipant.get(participant);
    if (!session || !Buffer.from(session.attending.challenge).equals(challenge)) {
      throw new TransportFault("ChallengeUnknown", "The request does not belong to the agent's living connection");
    }
    return session;
  }
}
