/**
 * Which change wakes which reconcile. Keys are names: an operator has one namespace.
 * Holds: handlers only enqueue.
 */
import { isDeepStrictEqual } from "node:util";
import { type ParticipantStatus, withoutLastSeen } from "../api/participant.ts";
import type { Controller } from "../kube/controller.ts";
import { parseKey, type RawObject } from "../kube/objects.ts";
import type { Context } from "./context.ts";
import type { RoundDesk } from "./round/desk.ts";

export interface Controllers {
  federation: Controller;
  round: Controller;
  participant: Controller;
  adapterVersion: Controller;
}

export class Wake {
  readonly #context: Context;
  readonly #desk: RoundDesk;
  readonly #controllers: () => Controllers;

  constructor(context: Context, desk: RoundDesk, controllers: () => Controllers) {
    this.#context = context;
    this.#desk = desk;
    this.#controllers = controllers;
  }

  round(name: string): void {
    this.#controllers().round.enqueue(name);
  }

  roundWithUid(uid: string): void {
    const record = this.#desk.get(uid);
    if (record) this.round(record.name);
  }

  federation(name: string): void {
    this.#controllers().federation.enqueue(name);
  }

  /** Rounds that may have waited for it; nothing wakes those that have ended. */
  roundsOf(federation: string): void {
    for (const round of this.#context.objects.openRoundsOf(federation)) this.round(round.metadata.name);
  }

  /** Came, left, enrolled, suspended: federations count them, rounds miss them. */
  participant(name: string): void {
    this.#controllers().participant.enqueue(name);
    for (const raw of this.#context.caches.federations.list()) this.federation(raw.metadata.name);
    for (const record of this.#desk.open()) this.round(record.name);
  }

  /** Those whose phase may be another one now: of a long history two. */
  #versions(changed: string, federation: string): void {
    const { objects } = this.#context;
    const newest = objects.newestVersionOf(federation);
    const active = objects.versionsOf(federation).filter(({ status }) => status.phase !== "Superseded");
    const names = new Set([changed, ...[...active, ...(newest ? [newest] : [])].map(({ metadata }) => metadata.name)]);
    for (const name of names) this.#controllers().adapterVersion.enqueue(name);
  }

  /** From now on caches' changes wake reconciles; what is in the caches and in the journal already does so at once. */
  connect(): void {
    const { federations, rounds, participants, adapterVersions } = this.#context.caches;
    federations.onChange((key) => {
      this.federation(parseKey(key).name);
      this.roundsOf(parseKey(key).name);
    });
    rounds.onChange((key, object, before) => {
      this.round(parseKey(key).name);
      const federation = ((object ?? before)?.spec as { federation?: string } | undefined)?.federation;
      if (federation) this.federation(federation);
    });
    participants.onChange((key, object, before) => {
      const { name } = parseKey(key);
      if (isNews(before, object)) this.participant(name);
      else this.#controllers().participant.enqueue(name);
    });
    adapterVersions.onChange((key, object, before) => {
      const federation = ((object ?? before)?.spec as { federation?: string } | undefined)?.federation;
      if (!federation) return;
      this.federation(federation);
      this.#versions(parseKey(key).name, federation);
    });
    // What was deleted while nobody looked.
    for (const name of this.#desk.names()) this.round(name);
    const { versions, tally } = this.#context;
    for (const name of [...versions.federations(), ...tally.federations()]) this.federation(name);
  }
}

/** Each connected participant is written every few minutes for its `lastSeen`: nothing that a federation or a round waits for. */
function isNews(before: RawObject | undefined, object: RawObject | undefined): boolean {
  return !before || !object || !isDeepStrictEqual(whatCounts(before), whatCounts(object));
}

function whatCounts({ metadata, spec, status }: RawObject): unknown {
  const { resourceVersion: _, ...rest } = metadata;
  return [rest, spec, withoutLastSeen((status ?? {}) as Partial<ParticipantStatus>)];
}
