/**
 * Whose identity keys this site masks against: plan × the site's trust × its pins → nothing to say, or a refusal (secure-aggregation.md §1).
 * Holds: pure; a key that is not pinned, changed or added, is never accepted by itself but in the first plan of a federation (`firstUse`).
 * Does not: keep pins (pin-ledger.ts).
 */
import { createHash } from "node:crypto";
import type { Plan } from "../round/plan.ts";
import type { Trust } from "./config.ts";
import { matchesAny } from "./patterns.ts";

/** A participant's Ed25519 public key, base64, as plans and site files write it. */
export interface RosterKey {
  participant: string;
  identity: string;
}

/** participant → identity, of one federation. */
export type Pins = ReadonlyMap<string, string>;

export type TrustVerdict =
  | { verdict: "trusted" }
  /** The first plan of this federation: its whole roster is to be pinned. */
  | { verdict: "pin"; keys: RosterKey[] }
  | { verdict: "refuse"; reason: "RosterChanged" | "RosterNotPinned"; message: string; proposed: RosterKey[] };

/**
 * @param own  this participant; its key is checked elsewhere and needs no pin
 * @param hasForgotten  the identity has masked in this federation under a ledger that is gone: its first use is over, and its pins are lost
 */
export function judgeTrust(
  plan: Pick<Plan, "federation" | "roster">,
  own: string,
  trust: Trust,
  pins: Pins,
  hasForgotten = false,
): TrustVerdict {
  const others = plan.roster.filter(({ participant }) => participant !== own);
  if (trust.mode === "pinned") return judgeListed(plan.federation, others, trust);
  if (pins.size === 0 && !hasForgotten) return { verdict: "pin", keys: others };
  const changed = others.filter(({ participant, identity }) => (pins.get(participant) ?? identity) !== identity);
  const added = others.filter(({ participant }) => !pins.has(participant));
  if (changed.length + added.length === 0) return { verdict: "trusted" };
  const parts = [
    ...(changed.length > 0 ? [`${named(changed)} with another key than this site has pinned`] : []),
    ...(added.length > 0 ? [`${named(added)}, whom this site has not pinned`] : []),
  ];
  return {
    verdict: "refuse",
    reason: "RosterChanged",
    message: `the roster has ${parts.join(", and ")}; its people compare fingerprints and accept: rondo agent roster`,
    proposed: [...changed, ...added],
  };
}

function judgeListed(federation: string, others: RosterKey[], { roster }: Trust): TrustVerdict {
  const isListed = (key: RosterKey) =>
    roster.some(
      (entry) =>
        entry.participant === key.participant &&
        entry.identity === key.identity &&
        matchesAny([entry.federation], federation),
    );
  const strangers = others.filter((key) => !isListed(key));
  if (strangers.length === 0) return { verdict: "trusted" };
  return {
    verdict: "refuse",
    reason: "RosterNotPinned",
    message: `policy: trust.roster does not list ${named(strangers)} with the key that the roster has`,
    proposed: strangers,
  };
}

/** A few by name: the sentence has to fit a status. */
function named(keys: readonly RosterKey[]): string {
  const names = keys.slice(0, 3).map(({ participant }) => participant);
  return names.join(", ") + (keys.length > 3 ? ` and ${keys.length - 3} more` : "");
}

/**
 * What people compare: "SHA256:" and the unpadded base64 of the key's SHA-256, as OpenSSH shows keys.
 * @param identity  32 bytes, base64
 */
export function fingerprintOf(identity: string): string {
  const hash = createHash("sha256").update(Buffer.from(identity, "base64")).digest("base64");
  return `SHA256:${hash.replace(/=+$/, "")}`;
}
