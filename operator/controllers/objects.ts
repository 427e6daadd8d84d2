/**
 * The four kinds as typed objects, parsed from what the caches hold.
 * Holds: an object is parsed once per version; what does not fit the schema (written by a newer release) is a sentence, not an exception.
 */
import type { z } from "zod";
import type { AdapterVersion } from "../api/adapter-version.ts";
import { type Federation, federationSchema } from "../api/federation.ts";
import { type FederationRound, federationRoundSchema, isTerminal } from "../api/federation-round.ts";
import { type Participant, participantSchema } from "../api/participant.ts";
import type { WatchCache } from "../kube/cache.ts";
import type { RawObject } from "../kube/objects.ts";
import { RoundIndex } from "./round-index.ts";
import { VersionIndex } from "./version-index.ts";

export interface Caches {
  federations: WatchCache<RawObject>;
  rounds: WatchCache<RawObject>;
  participants: WatchCache<RawObject>;
  adapterVersions: WatchCache<RawObject>;
}

export type Read<T> = { kind: "absent" } | { kind: "invalid"; problem: string } | { kind: "there"; object: T };

const parsed = new WeakMap<RawObject, Read<unknown>>();

export function readAs<S extends z.ZodType>(schema: S, raw: RawObject | undefined): Read<z.output<S>> {
  if (!raw) return { kind: "absent" };
  const known = parsed.get(raw);
  if (known) return known as Read<z.output<S>>;
  const result = schema.safeParse(raw);
  const issue = result.error?.issues[0];
  const read: Read<z.output<S>> = result.success
    ? { kind: "there", object: result.data }
    : { kind: "invalid", problem: `${issue?.path.join(".") || "the object"}: ${issue?.message}` };
  parsed.set(raw, read);
  return read;
}

/** One namespace's objects. */
export class Objects {
  readonly namespace: string;
  readonly #caches: Caches;
  readonly #rounds: RoundIndex;
  readonly #versions: VersionIndex;

  constructor(namespace: string, caches: Caches) {
    this.namespace = namespace;
    this.#caches = caches;
    this.#rounds = new RoundIndex(caches.rounds);
    this.#versions = new VersionIndex(caches.adapterVersions);
  }

  federation(name: string): Read<Federation> {
    return readAs(federationSchema, this.#caches.federations.get({ namespace: this.namespace, name }));
  }

  round(name: string): Read<FederationRound> {
    return readAs(federationRoundSchema, this.#caches.rounds.get({ namespace: this.namespace, name }));
  }

  participant(name: string): Participant | undefined {
    return there(readAs(participantSchema, this.#caches.participants.get({ namespace: this.namespace, name })));
  }

  participants(): Participant[] {
    return this.#caches.participants.list().flatMap((raw) => there(readAs(participantSchema, raw)) ?? []);
  }

  /** Its whole history: thousands, perhaps. What only concerns rounds that may still change asks for openRoundsOf. */
  roundsOf(federation: string): FederationRound[] {
    return readRounds(this.#rounds.all(federation));
  }

  /** Whose status is not terminal; the record of one may be. */
  openRoundsOf(federation: string): FederationRound[] {
    return readRounds(this.#rounds.open(federation));
  }

  /** @param creator  uid of the Federation that created them; most objects cost nothing but their place in a map */
  endedRoundsOf(creator: string): ReadonlyMap<string, RawObject> {
    return this.#rounds.ended(creator);
  }

  /** In no order; as many as there ever were rounds. */
  versionsOf(federation: string): AdapterVersion[] {
    return [...this.#versions.all(federation)];
  }

  newestVersionOf(federation: string): AdapterVersion | undefined {
    return this.#versions.newest(federation);
  }
}

function readRounds(raw: Iterable<RawObject>): FederationRound[] {
  return [...raw].flatMap((round) => there(readAs(federationRoundSchema, round)) ?? []);
}

export function there<T>(read: Read<T>): T | undefined {
  return read.kind === "there" ? read.object : undefined;
}

/** For the cache: nobody here reads the participants of a round that has ended, and a thousand such rounds would be 200 MB of them. */
export function keptRound(round: RawObject): RawObject {
  const status = round.status as FederationRound["status"] | undefined;
  if (status && isTerminal(status.phase)) delete status.participants;
  return round;
}
