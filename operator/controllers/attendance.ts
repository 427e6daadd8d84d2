/**
 * Who is there: the living Attend stream of each participant, and since when.
 * Holds: one session per participant; a plan is sent once per session, and again to a session that came after it.
 * Does not: survive a restart: agents come back by themselves and are seen anew.
 */
import type { Session } from "../transport/coordinator.ts";

export interface Presence {
  connected: boolean;
  lastSeenMs: number;
  agentVersion: string;
  capacity?: { gpus: number; gpuResourceName: string };
}

export class Attendance {
  readonly #sessions = new Map<string, Session>();
  readonly #presence = new Map<string, Presence>();
  readonly #sent = new WeakMap<Session, Set<string>>();
  readonly #now: () => number;

  constructor(now: () => number) {
    this.#now = now;
  }

  arrived(session: Session): void {
    const { agentVersion, capacity } = session.attending;
    this.#sessions.set(session.participant, session);
    this.#presence.set(session.participant, {
      connected: true,
      lastSeenMs: this.#now(),
      agentVersion,
      ...(capacity && { capacity: { gpus: capacity.gpus, gpuResourceName: capacity.gpuResourceName } }),
    });
  }

  /** @returns whether it was the one that counts */
  left(session: Session): boolean {
    if (this.#sessions.get(session.participant) !== session) return false;
    this.#sessions.delete(session.participant);
    const presence = this.#presence.get(session.participant)!;
    this.#presence.set(session.participant, { ...presence, connected: false, lastSeenMs: this.#now() });
    return true;
  }

  session(participant: string): Session | undefined {
    return this.#sessions.get(participant);
  }

  /** undefined: not seen since this process began. */
  presence(participant: string): Presence | undefined {
    const presence = this.#presence.get(participant);
    return presence?.connected ? { ...presence, lastSeenMs: this.#now() } : presence;
  }

  connected(): ReadonlySet<string> {
    return new Set(this.#sessions.keys());
  }

  /** A round has ended for good: a session that lives for months need not remember what it was sent for it. */
  forgetWork(uid: string): void {
    for (const session of this.#sessions.values()) {
      const sent = this.#sent.get(session);
      for (const key of sent ?? []) if (key.includes(uid)) sent?.delete(key);
    }
  }

  /** Whether this session is still to be sent what belongs to this key; from now on it is not. */
  firstTime(session: Session, key: string): boolean {
    const sent = this.#sent.get(session) ?? new Set<string>();
    this.#sent.set(session, sent);
    if (sent.has(key)) return false;
    sent.add(key);
    return true;
  }
}
