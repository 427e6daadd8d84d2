/**
 * Who of the participants is invited to a round, when it wants fewer than there are: drawn uniformly, and reproducibly from what the plan shows.
 * Holds: with the plan's seed and candidates everybody draws the same sample again; which others there are changes nobody's place among them.
 * Does not: draw the seed, nor prove that the operator did so fairly: whom to invite is its choice (secure-aggregation.md §4, minCohort).
 */
import { createHmac } from "node:crypto";
import { type Sample, wanted } from "../api/sample.ts";
import type { Plan, PlanSample } from "./plan.ts";

/** As a plan can hold them. */
export const MOST_CANDIDATES = 1024;

/**
 * @param seed        base64
 * @param candidates  names, each once, in any order
 * @returns at most `count` of them, ascending by the bytes of their names
 */
export function sampleOf(seed: string, candidates: readonly string[], count: number): string[] {
  const key = Buffer.from(seed, "base64");
  return candidates
    .map((name) => ({ name, place: createHmac("sha256", key).update(name, "utf8").digest() }))
    .sort((a, b) => Buffer.compare(a.place, b.place))
    .slice(0, count)
    .map(({ name }) => name)
    .sort(byBytes);
}

/**
 * What a plan says of its sample. Drawn among those whose agents are connected where these are enough, so that nobody is invited in vain.
 * @param seed       32 bytes, base64, drawn for this round
 * @param invitable  everybody who can be invited
 * @throws RangeError when there are more candidates than a plan can hold
 */
export function planSample(
  sample: Sample,
  seed: string,
  { invitable, connected }: { invitable: readonly string[]; connected: ReadonlySet<string> },
): PlanSample {
  const count = wanted(sample, invitable.length);
  const overselect = sample.overselect ?? 0;
  const there = invitable.filter((name) => connected.has(name));
  const candidates = [...(there.length >= count + overselect ? there : invitable)].sort(byBytes);
  if (candidates.length > MOST_CANDIDATES)
    throw new RangeError(
      `${candidates.length} Participants match; a sample is drawn among at most ${MOST_CANDIDATES}: narrow the selector`,
    );
  return { seed, count, overselect, candidates };
}

/** Whom the sample invites: those that are wanted and those beyond. */
export function invitedBy({ seed, count, overselect, candidates }: PlanSample): string[] {
  return sampleOf(seed, candidates, count + overselect);
}

/** Why a plan's roster is not one of its sample, as a sentence; undefined: it is, or everybody is invited. */
export function sampleComplaint({ sample, roster }: Pick<Plan, "sample" | "roster">): string | undefined {
  if (!sample) return undefined;
  const { candidates } = sample;
  if (candidates.some((name, i) => i > 0 && byBytes(candidates[i - 1]!, name) >= 0))
    return "the candidates of the plan's sample are not ascending, each once";
  const invited = new Set(invitedBy(sample));
  const stranger = roster.find(({ participant }) => !invited.has(participant));
  return stranger && `${stranger.participant} is on the plan's roster and not in the sample that its seed draws`;
}

function byBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a, "utf8"), Buffer.from(b, "utf8"));
}
