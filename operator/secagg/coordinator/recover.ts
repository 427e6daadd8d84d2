/**
 * After M4: from the revealed shares to the keys of the masks that are left in the sum (secure-aggregation.md §3 "Bad shares").
 * Holds: a secret is used only when it is the one that its owner committed to in M0, so that no liar can spoil the sum.
 * Does not: remove masks (masks.ts). Takes more than 50 ms for a large cohort, and belongs into a worker.
 */
import { sameBytes } from "../bytes.ts";
import { SecaggFault } from "../faults.ts";
import { pairMaskKey, publicKeyOf, selfMaskKey } from "../key-agreement.ts";
import type { MaskKey } from "../masks.ts";
import type { Advertisement, SessionTerms } from "../messages.ts";
import type { Share } from "../shares.ts";
import { commitmentTo } from "../transcript.ts";
import { reconstruct } from "./reconstruct.ts";
import { type CohortState, type Complete, nameOf } from "./states.ts";
import { aliveIn } from "./unmask.ts";

export interface Recovered {
  /** What to add to the sum of U3's vectors so that only the sum of their contents is left. */
  keys: MaskKey[];
  /**
   * Indexes of members that revealed a share which does not lie on its dealer's polynomial, ascending. Named, not proven: a dealer
   * that deals one member a wrong share makes an honest one look so.
   */
  liars: number[];
}

/**
 * @param state  a complete cohort
 * @throws SecaggFault "NotEnoughShares" | "InconsistentDealer": no t of a member's shares give what it committed to. It is accused,
 *                     and the attempt is lost, because shares have been released for it.
 */
export function recover(terms: SessionTerms, state: CohortState): Recovered {
  if (state.step !== "complete" || state.answers.size < terms.threshold) {
    const have = state.step === "complete" || state.step === "unmask" ? state.answers.size : 0;
    throw new SecaggFault(
      "NotEnoughShares",
      `${have} members released their shares; the cohort needs ${terms.threshold}`,
    );
  }
  const isAlive = aliveIn(state);
  const keys: MaskKey[] = [];
  const liars = new Set<number>();
  const inconsistent: Advertisement[] = [];
  for (const owner of state.u1.filter(({ index }) => state.shared.has(index))) {
    const alive = isAlive(owner.index);
    const isRight = alive ? isSelfSecretOf(owner) : isPairSecretOf(owner);
    const secret = reconstruct(sharesOf(state, owner.index, liars), terms.threshold, isRight);
    if (!secret) {
      inconsistent.push(owner);
      continue;
    }
    keys.push(...(alive ? selfMask(state, owner, secret.value) : pairMasks(state, owner, secret.value)));
    for (const x of secret.off) liars.add(x);
  }
  if (inconsistent.length > 0) throw inconsistentDealers(terms, inconsistent);
  return { keys, liars: [...liars].sort((a, b) => a - b) };
}

/** What the members revealed of one owner's secret; those who have lied before come last, as they are the first to be left out. */
function sharesOf(state: Complete, owner: number, liars: ReadonlySet<number>): Share[] {
  const at = state.u2.indexOf(owner);
  const shares = [...state.answers].map(([x, message]) => ({ x, share: message.shares[at]!.share!.value }));
  return [...shares.filter(({ x }) => !liars.has(x)), ...shares.filter(({ x }) => liars.has(x))];
}

const isSelfSecretOf =
  ({ cmB }: Advertisement) =>
  (b: Uint8Array): boolean =>
    sameBytes(commitmentTo(b), cmB);

const isPairSecretOf =
  ({ sPk }: Advertisement) =>
  (sSk: Uint8Array): boolean =>
    sameBytes(publicKeyOf(sSk), sPk);

/** A survivor added its own mask: it goes. The masks that it shares with other survivors have cancelled. */
const selfMask = ({ t1 }: Complete, { index }: Advertisement, b: Uint8Array): MaskKey[] => [
  { key: selfMaskKey(b, t1, index), sign: -1 },
];

/** Each survivor u added σ(u,v)·PRG for the pair with the lost v, and v never subtracted it: −σ(u,v) is what v would have added. */
const pairMasks = ({ t1, u1, u3 }: Complete, { index: lost }: Advertisement, sSk: Uint8Array): MaskKey[] =>
  u3.map(({ index: survivor }) => ({
    key: pairMaskKey(sSk, u1.find(({ index }) => index === survivor)!.sPk, t1, [survivor, lost]),
    sign: survivor < lost ? -1 : 1,
  }));

function inconsistentDealers(terms: SessionTerms, dealers: readonly Advertisement[]): SecaggFault {
  const names = dealers.map(({ index }) => nameOf(terms, index));
  const others = names.length > 1 ? ` and ${names.length - 1} more` : "";
  return new SecaggFault(
    "InconsistentDealer",
    `${names[0]}${others} dealt shares of another secret than promised`,
    names,
  );
}
