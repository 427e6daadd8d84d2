/**
 * A cohort for tests: members with real identities, the terms they share, and randomness that is the same in every run.
 */
import { createPrivateKey, createPublicKey, type KeyObject, sign } from "node:crypto";
import { concat, sha256, u32, utf8 } from "../bytes.ts";
import type { SessionTerms } from "../messages.ts";
import type { ParticipantDeps } from "../participant/deps.ts";
import { thresholdOf } from "../thresholds.ts";
import { contextHash, rosterHash } from "../transcript.ts";

/** u32 elements of a vector: the masks' arithmetic is the same for one as for a million. */
export const ELEMENTS = 2;

export interface TestCohort {
  terms: SessionTerms;
  /** What member `index` runs one step with. The same step draws the same bytes, and no other step draws them. */
  deps(index: number, step?: string): ParticipantDeps;
}

export interface Variation {
  /** Hash of the parent adapter that the terms are bound to. */
  adapter?: Uint8Array;
  /** Another one gives other session keys for the same members. */
  seed?: string;
}

export function testCohort(size: number, { adapter = sha256(utf8("adapter")), seed = "" }: Variation = {}): TestCohort {
  const members = Array.from({ length: size }, (_, at) => ({
    participant: `clinic-${String(at + 1).padStart(3, "0")}`,
    identity: identityOf(at + 1).publicKey,
  }));
  const terms: SessionTerms = {
    c0: contextHash({
      federation: "example.org/rondo/clinic-notes",
      round: 9,
      attempt: 1,
      cohort: 0,
      purpose: "delta",
      rosterHash: rosterHash(members),
      baseModelHash: sha256(utf8("base")),
      globalAdapterHash: adapter,
      planHash: sha256(utf8("plan")),
    }),
    members,
    threshold: thresholdOf(size),
    byteLength: 4 * ELEMENTS,
  };
  return {
    terms,
    deps: (index, step = "advertise") => ({
      terms,
      own: index,
      sign: (bytes) => signAs(index, bytes),
      random: seededRandom(`${seed}/${size}/${index}/${step}`),
    }),
  };
}

/** By the long-term key of the member that has this index in every test cohort. */
export const signAs = (index: number, bytes: Uint8Array): Uint8Array =>
  new Uint8Array(sign(null, bytes, identityOf(index).privateKey));

/** A stream of bytes that depends on the seed alone. */
export function seededRandom(seed: string): (length: number) => Uint8Array {
  let drawn = 0;
  return (length) => {
    const blocks = Array.from({ length: Math.ceil(length / 32) }, () => sha256(concat(utf8(seed), u32(drawn++))));
    return concat(...blocks).slice(0, length);
  };
}

interface Identity {
  privateKey: KeyObject;
  publicKey: Uint8Array;
}

// RFC 8410: what stands before the 32 raw bytes in PKCS#8; the public key is the last 32 bytes of an SPKI.
const ED25519_PRIVATE = Buffer.from("302e020100300506032b657004220420", "hex");
const identities = new Map<number, Identity>();

function identityOf(index: number): Identity {
  let identity = identities.get(index);
  if (!identity) {
    const der = Buffer.concat([ED25519_PRIVATE, sha256(utf8(`identity ${index}`))]);
    const privateKey = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
    const spki = createPublicKey(privateKey).export({ format: "der", type: "spki" });
    identity = { privateKey, publicKey: new Uint8Array(spki.subarray(-32)) };
    identities.set(index, identity);
  }
  return identity;
}
