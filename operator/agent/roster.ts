/**
 * What the site's people see of the keys that their agent masks against, and how they accept a changed one (`rondo agent roster`).
 * Holds: nothing is accepted without the fingerprint of the very key that is proposed; in mode `pinned` the site's file alone decides.
 */
import type { Trust } from "./config.ts";
import { type PinLedger, RosterFault } from "./pin-ledger.ts";
import { fingerprintOf } from "./trust.ts";

export interface RosterView {
  participant: string;
  fingerprint: string;
  mode: Trust["mode"];
  /** By federation, then by participant; a proposal behind the pin that it would replace. */
  entries: RosterEntry[];
}

export interface RosterEntry {
  /** As trust.roster has it: a pattern, for `listed`. */
  federation: string;
  participant: string;
  identity: string;
  fingerprint: string;
  /** RFC 3339; null: listed in the site's file. */
  since: string | null;
  /**
   * pinned: masked against. listed: likewise, by the site's file. proposed: a plan has shown it, rounds with it are refused until it is
   * accepted. unlisted: likewise, and only trust.roster can change that. unused: pinned once, but the site's file decides now.
   */
  state: "pinned" | "listed" | "proposed" | "unlisted" | "unused";
  /** Of pinned: `firstUse` or `accepted`. */
  by: "firstUse" | "accepted" | null;
  /** Of a proposal: whether the site has another key of this participant, and in which round it was last shown. */
  replaces: boolean;
  round: number | null;
}

export interface AcceptRequest {
  participant: string;
  /** Whole identity or the Federation's name. */
  federation?: string | undefined;
  fingerprint: string;
}

export async function rosterView(
  ledger: PinLedger,
  own: { participant: string; identity: string; trust: Trust },
): Promise<RosterView> {
  const { mode, roster } = own.trust;
  const [pins, proposals] = await Promise.all([ledger.pins(), ledger.proposals()]);
  const isPinned = mode === "pinned";
  const listed = (isPinned ? roster : []).map((entry) => ({ ...row(entry), state: "listed" as const }));
  const pinned = pins.map((pin) => ({
    ...row(pin),
    since: new Date(pin.sinceMs).toISOString(),
    state: isPinned ? ("unused" as const) : ("pinned" as const),
    by: pin.by,
  }));
  const known = new Set(pins.map(({ federation, participant }) => `${federation}#${participant}`));
  const proposed = proposals.map((proposal) => ({
    ...row(proposal),
    since: new Date(proposal.sinceMs).toISOString(),
    state: isPinned ? ("unlisted" as const) : ("proposed" as const),
    replaces: known.has(`${proposal.federation}#${proposal.participant}`),
    round: proposal.round,
  }));
  const entries = [...listed, ...pinned, ...proposed];
  const order = ({ federation, participant }: RosterEntry) => `${federation}#${participant}`;
  return {
    participant: own.participant,
    fingerprint: fingerprintOf(own.identity),
    mode,
    // Stable: a proposal stays behind its pin.
    entries: entries.sort((a, b) => Buffer.compare(Buffer.from(order(a)), Buffer.from(order(b)))),
  };
}

/** @throws RosterFault */
export async function acceptKey(
  ledger: PinLedger,
  { mode }: Trust,
  { participant, federation, fingerprint }: AcceptRequest,
  nowMs: number,
): Promise<{ federation: string; participant: string; fingerprint: string }> {
  if (mode === "pinned") {
    throw new RosterFault(
      "PinnedByPolicy",
      "this site's policy.trust.mode is pinned: list the key in policy.trust.roster and let the agent start again",
    );
  }
  const pin = await ledger.accept({ participant, fingerprint, ...(federation ? { federation } : {}) }, nowMs);
  return { federation: pin.federation, participant: pin.participant, fingerprint: fingerprintOf(pin.identity) };
}

function row(key: { federation: string; participant: string; identity: string }): RosterEntry {
  const { federation, participant, identity } = key;
  const fingerprint = fingerprintOf(identity);
  return {
    federation,
    participant,
    identity,
    fingerprint,
    since: null,
    state: "listed",
    by: null,
    replaces: false,
    round: null,
  };
}
