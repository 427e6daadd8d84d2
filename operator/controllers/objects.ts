/**
 * The four kinds as typed objects, parsed from what the caches hold.
 * Holds: an object is parsed once per version; what does not fit the schema (written by a newer release) is a sentence, not an exception.
 */
import type { z } from "zod";
import { type AdapterVersion, adapterVersionSchema } from "../api/adapter-version.ts";
import { type Federation, federationSchema } from "../api/federation.ts";
import { type FederationRound, federationRoundSchema } from "../api/federation-round.ts";
import { type Participant, participantSchema } from "../api/participant.ts";
import type { WatchCache } from "../kube/cache.ts";
import type { RawObject } from "../kube/objects.ts";

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

  constructor(namespace: string, caches: Caches) {
    this.namespace = namespace;
    this.#caches = caches;
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

  roundsOf(federation: string): FederationRound[] {
    return this.#caches.rounds
      .list()
      .flatMap((raw) => there(readAs(federationRoundSchema, raw)) ?? [])
      .filter((round) => round.spec.federation === federation);
  }

  versionsOf(federation: string): AdapterVersion[] {
    return this.#caches.adapterVersions
      .list()
      .flatMap((raw) => there(readAs(adapterVersionSchema, raw)) ?? [])
      .filter((version) => version.spec.federation === federation)
      .sort((a, b) => a.spec.version - b.spec.version);
  }
}

export function there<T>(read: Read<T>): T | undefined {
  return read.kind === "there" ? read.object : undefined;
}
