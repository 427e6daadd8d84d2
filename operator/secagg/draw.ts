/**
 * Who is in which cohort, when there are more participants than one cohort holds (secure-aggregation.md §6 "Who decides cohorts").
 * Holds: everybody has bound itself to a nonce before anybody's is known, so that one honest member is enough to make the split fair.
 * The size of cohorts is fixed before that too: else a coordinator that knows the nonces chooses among numbers of cohorts.
 * Does not: open draws, keep nonces or ask for them (agent and operator), nor draw random bytes.
 */
import { createHmac } from "node:crypto";
import type { Plan } from "../round/plan.ts";
import { concat, labelled, lengthPrefixed, sameBytes, sha256, u32, u64, utf8 } from "./bytes.ts";
import { signedBytes, verifySigned } from "./key-agreement.ts";

export const NONCE_BYTES = 32;
/** An agent takes part in so many draws of one round: whoever lets a draw fail after seeing its result has few tries. */
export const MOST_DRAWS = 3;

/** Which draw a signature or a seed belongs to. */
export interface Draw {
  /** `<trust domain>/<namespace>/<Federation name>` */
  federation: string;
  round: number;
  /** 1…MOST_DRAWS */
  number: number;
}

/** cm_n: binds to a nonce of 32 bytes without showing it. */
export const commitmentToNonce = (nonce: Uint8Array): Uint8Array => sha256(labelled("commit-nonce", nonce));

/** What a participant signs when it commits. */
export const commitmentBytes = (draw: Draw, commitment: Uint8Array): Uint8Array =>
  signedBytes("draw", commitmentBody(draw, commitment));

/** @param identity  Ed25519 public key of the participant, of the caller's own pins */
export const isCommitment = (
  draw: Draw,
  identity: Uint8Array,
  commitment: Uint8Array,
  signature: Uint8Array,
): boolean => verifySigned(identity, "draw", commitmentBody(draw, commitment), signature);

/** 32 bytes that nobody could choose. @param nonces  of everybody in the draw, in any order */
export function drawSeed(draw: Draw, nonces: readonly { participant: string; nonce: Uint8Array }[]): Uint8Array {
  const entries = [...nonces]
    .sort((a, b) => byBytes(a.participant, b.participant))
    .flatMap(({ participant, nonce }) => [lengthPrefixed(participant), nonce]);
  return sha256(labelled("cohort-seed", drawBody(draw), ...entries));
}

/**
 * @param cohortSize  the most members of a cohort, at least 1
 * @returns ⌈N / cohortSize⌉ cohorts whose sizes differ by one at most; members ascending by the bytes of their names
 */
export function cohortsOf(seed: Uint8Array, members: readonly string[], cohortSize: number): string[][] {
  const cohorts: string[][] = Array.from({ length: Math.ceil(members.length / cohortSize) }, () => []);
  members
    .map((participant) => ({ participant, place: createHmac("sha256", seed).update(participant, "utf8").digest() }))
    .sort((a, b) => Buffer.compare(a.place, b.place))
    .forEach(({ participant }, at) => {
      cohorts[at % cohorts.length]!.push(participant);
    });
  return cohorts.map((cohort) => cohort.sort(byBytes));
}

/** What a participant remembers of a draw in which it has committed. */
export interface OwnDraw {
  nonce: Uint8Array;
  /** As the operator named it when it opened the draw. */
  cohortSize: number;
  /** Whose commitments it was shown before it gave its nonce, ascending; empty: it never gave it. */
  shown: readonly { participant: string; commitment: Uint8Array }[];
}

/**
 * Whether a plan's cohorts are those that its draw gives, by everything that this participant knows itself.
 *
 * A later attempt has lost members, and its cohorts are the draw's without them. Whoever has left is not on its roster, so that there is no
 * pinned key to check the signature of its commitment with. That is safe, because it is not signatures that make the split fair: it is the
 * order. The seed holds this participant's own nonce, and every commitment in it, also that of who has left, is the very one that was shown
 * before that nonce was given away; whoever invented a commitment then could foresee nothing. A signature says besides that it was that
 * member who committed, which for members of the roster, with whom this participant is to share keys, is checked as ever.
 * Who has left is the operator's choice, made when it knows the split: against that stands the site's minCohort, which holds for every
 * attempt (secure-aggregation.md §4), and nothing else.
 * @param identityOf  the pinned Ed25519 key of each participant of the plan's roster
 * @param own.drawOf  what this participant remembers of a draw of this round; undefined: it took no part in that one
 * @returns why the cohorts are not to be trusted, as one sentence; undefined: they are
 */
export function drawComplaint(
  plan: Plan,
  identityOf: (participant: string) => Uint8Array,
  own: { participant: string; drawOf(number: number): OwnDraw | undefined },
): string | undefined {
  const { cohorts = [], draw } = plan.secure ?? {};
  const roster = plan.roster.map(({ participant }) => participant);
  if (!draw) {
    if (cohorts.length !== 1) return "the plan has several cohorts and no draw that decided them";
    return isSameSplit(cohorts, [roster]) ? undefined : "the plan's one cohort is not its roster";
  }
  const remembered = own.drawOf(draw.number);
  if (!remembered) return `this participant took no part in draw ${draw.number} of the round`;
  const drawn = draw.nonces.map((entry) => ({
    participant: entry.participant,
    commitment: fromBase64(entry.commitment),
    signature: fromBase64(entry.signature),
    nonce: fromBase64(entry.nonce),
  }));
  const which: Draw = { federation: plan.federation, round: plan.round, number: draw.number };
  const complaint =
    membersComplaint(plan, drawn) ??
    ownComplaint(drawn, own.participant, remembered) ??
    commitmentsComplaint(which, drawn, new Set(roster), identityOf) ??
    shownComplaint(drawn, remembered.shown);
  if (complaint) return complaint;
  const everybody = drawn.map(({ participant }) => participant);
  const expected = cohortsOf(drawSeed(which, drawn), everybody, remembered.cohortSize);
  return isSameSplit(cohorts, withoutOthers(expected, roster))
    ? undefined
    : "the plan's cohorts are not those that the draw gives";
}

/**
 * The cohorts of a later attempt: those of the one before, without who has left. One that nobody is left of is none any more.
 * @param kept  who is on the later attempt's roster
 */
export function withoutOthers(cohorts: readonly (readonly string[])[], kept: readonly string[]): string[][] {
  const stays = new Set(kept);
  return cohorts.map((members) => members.filter((name) => stays.has(name))).filter(({ length }) => length > 0);
}

type Drawn = { participant: string; commitment: Uint8Array; signature: Uint8Array; nonce: Uint8Array };

/** Each once: else a coordinator that knows the nonces could choose whose it counts twice. */
function membersComplaint({ attempt, roster }: Plan, drawn: readonly Drawn[]): string | undefined {
  const members = roster.map(({ participant }) => participant);
  const names = drawn.map(({ participant }) => participant);
  if (attempt === 1) return isSameList(names, members) ? undefined : "the plan's draw was not made among its roster";
  if (names.some((name, at) => at > 0 && byBytes(names[at - 1]!, name) >= 0))
    return "the members of the plan's draw are not ascending, each once";
  const stranger = members.find((name) => !names.includes(name));
  return stranger && `${stranger} is on the plan's roster and was not in its draw: a later attempt only loses members`;
}

function ownComplaint(drawn: readonly Drawn[], participant: string, { nonce }: OwnDraw): string | undefined {
  const mine = drawn.find((one) => one.participant === participant);
  return mine && sameBytes(mine.nonce, nonce)
    ? undefined
    : "the plan's draw shows another nonce than this participant's";
}

function commitmentsComplaint(
  which: Draw,
  drawn: readonly Drawn[],
  roster: ReadonlySet<string>,
  identityOf: (participant: string) => Uint8Array,
): string | undefined {
  for (const { participant, commitment, signature, nonce } of drawn) {
    if (roster.has(participant) && !isCommitment(which, identityOf(participant), commitment, signature))
      return `${participant} has not signed the commitment that the plan's draw shows for it`;
    if (!sameBytes(commitmentToNonce(nonce), commitment))
      return `${participant}'s nonce is not the one it committed to`;
  }
  return undefined;
}

/** Without this, a member that colludes with the coordinator could commit anew once all honest nonces are known. */
function shownComplaint(drawn: readonly Drawn[], shown: OwnDraw["shown"]): string | undefined {
  const isAsShown =
    drawn.length === shown.length &&
    drawn.every(
      ({ participant, commitment }, at) =>
        participant === shown[at]!.participant && sameBytes(commitment, shown[at]!.commitment),
    );
  return isAsShown
    ? undefined
    : "the plan's draw shows other commitments than those that this participant was shown before it gave its nonce";
}

const drawBody = ({ federation, round, number }: Draw): Uint8Array =>
  concat(lengthPrefixed(federation), u64(round), u32(number));

const commitmentBody = (draw: Draw, commitment: Uint8Array): Uint8Array => concat(drawBody(draw), commitment);

const byBytes = (a: string, b: string): number => Buffer.compare(utf8(a), utf8(b));

const fromBase64 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "base64"));

const isSameList = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((name, at) => name === b[at]);

const isSameSplit = (
  cohorts: readonly { members: readonly string[] }[],
  expected: readonly (readonly string[])[],
): boolean =>
  cohorts.length === expected.length && cohorts.every(({ members }, at) => isSameList(members, expected[at]!));
