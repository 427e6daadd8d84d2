/**
 * The pinned identity keys of the other participants, and the keys that plans have proposed since (secure-aggregation.md §1).
 * Holds: a pin changes only by accept(), with the fingerprint of the very key; a proposal is kept until it is accepted or another one of
 * the same participant takes its place.
 */
import { z } from "zod";
import type { Write } from "../journal/journal.ts";
import { parsed, put, remove, type Store } from "./store.ts";
import { fingerprintOf, type Pins, type RosterKey } from "./trust.ts";

const SPACE = { pins: "pins", proposals: "proposed-pins" } as const;

const pinSchema = z.strictObject({
  federation: z.string(),
  participant: z.string(),
  identity: z.string(),
  sinceMs: z.int().min(0),
  by: z.enum(["firstUse", "accepted"]),
});
export type Pin = z.infer<typeof pinSchema>;

const proposalSchema = z.strictObject({
  federation: z.string(),
  participant: z.string(),
  identity: z.string(),
  sinceMs: z.int().min(0),
  /** Whose plan showed it last. */
  round: z.int().min(1),
});
export type Proposal = z.infer<typeof proposalSchema>;

/** Answered to the person who asked. */
export class RosterFault extends Error {
  override readonly name = "RosterFault";
  readonly reason: "NoSuchProposal" | "FederationAmbiguous" | "FingerprintDiffers" | "PinnedByPolicy";
  constructor(reason: RosterFault["reason"], message: string) {
    super(message);
    this.reason = reason;
  }
}

export class PinLedger {
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
  }

  async of(federation: string): Promise<Pins> {
    return new Map((await this.pins(federation)).map(({ participant, identity }) => [participant, identity]));
  }

  /** Ascending by federation, then by participant. */
  async pins(federation?: string): Promise<Pin[]> {
    const entries = await this.#store.entries(SPACE.pins, federation && `${federation}#`);
    return entries.map(({ value }) => pinSchema.parse(parsed(value)));
  }

  async proposals(federation?: string): Promise<Proposal[]> {
    const entries = await this.#store.entries(SPACE.proposals, federation && `${federation}#`);
    return entries.map(({ value }) => proposalSchema.parse(parsed(value)));
  }

  /** For the commit of the first plan's answer: from then on these are the keys. */
  firstUse(federation: string, keys: readonly RosterKey[], nowMs: number): Write[] {
    return keys.map((key) => {
      const pin: Pin = { federation, ...key, sinceMs: nowMs, by: "firstUse" };
      return put(SPACE.pins, keyOf(pin), pin);
    });
  }

  async propose(of: { federation: string; round: number }, keys: readonly RosterKey[], nowMs: number): Promise<void> {
    const known = new Map((await this.proposals(of.federation)).map((each) => [each.participant, each]));
    const writes = keys.map(({ participant, identity }) => {
      const same = known.get(participant);
      const sinceMs = same?.identity === identity ? same.sinceMs : nowMs;
      const proposal: Proposal = { federation: of.federation, participant, identity, sinceMs, round: of.round };
      return put(SPACE.proposals, keyOf(proposal), proposal);
    });
    await this.#store.commit(writes);
  }

  /**
   * Pins the proposed key of a participant.
   * @param fingerprint  what the person has compared: of the proposed key, or nothing is changed
   * @param federation   whole identity or the Federation's name; may be absent where one federation alone proposes this participant
   * @throws RosterFault
   */
  async accept(of: { participant: string; federation?: string; fingerprint: string }, nowMs: number): Promise<Pin> {
    const proposal = await this.#proposed(of);
    const proposed = fingerprintOf(proposal.identity);
    if (proposed !== of.fingerprint) {
      throw new RosterFault(
        "FingerprintDiffers",
        `the proposed key of ${of.participant} in ${proposal.federation} is ${proposed}, not ${of.fingerprint}; nothing was changed`,
      );
    }
    const { federation, participant, identity } = proposal;
    const pin: Pin = { federation, participant, identity, sinceMs: nowMs, by: "accepted" };
    await this.#store.commit([put(SPACE.pins, keyOf(pin), pin), remove(SPACE.proposals, keyOf(pin))]);
    return pin;
  }

  async #proposed({ participant, federation }: { participant: string; federation?: string }): Promise<Proposal> {
    const found = (await this.proposals()).filter(
      (each) =>
        each.participant === participant &&
        (!federation || each.federation === federation || each.federation.endsWith(`/${federation}`)),
    );
    if (found.length > 1) {
      const all = found.map((each) => each.federation).join(", ");
      throw new RosterFault(
        "FederationAmbiguous",
        `${participant} has proposed keys in ${all}; name one with --federation`,
      );
    }
    if (!found[0]) throw new RosterFault("NoSuchProposal", `no plan has proposed a new key of ${participant}`);
    return found[0];
  }
}

function keyOf({ federation, participant }: { federation: string; participant: string }): string {
  return `${federation}#${participant}`;
}
