/**
 * How many participants a round takes, and how many more it invites (api.md "participants.sample").
 * Holds: what the CEL rules refuse at admission, sampleProblem refuses of a Federation merged with a round's overrides, in the same words.
 * Does not: draw anybody (operator/round/sampling.ts).
 */
import { z } from "zod";
import { type CelRule, cel } from "./cel.ts";
import { decimalNumber, fraction } from "./quantities.ts";

/** More than any federation has today; the list of candidates in a plan has the same limit. */
export const SAMPLE_MAX = 1024;

/** A round replaces the whole sample of its Federation. */
export const sampleSchema = z
  .object({
    count: z.int().min(1).max(SAMPLE_MAX).optional().describe("How many participants the round wants."),
    fraction: fraction
      .optional()
      .describe('Instead of count: the share of those that can be invited, rounded up, such as "0.5".'),
    overselect: z
      .int()
      .min(0)
      .max(SAMPLE_MAX)
      .optional()
      .describe(
        "How many more are invited; as soon as as many as the round wants are there, nobody waits for the stragglers.",
      ),
  })
  .meta(
    cel(["has(self.count) != has(self.fraction)", 'a sample needs either count: 6 or fraction: "0.5", and not both']),
  );

export type Sample = z.infer<typeof sampleSchema>;

const MINIMUM_ABOVE_COUNT =
  "participants.minimum must not be above participants.sample.count: no round could reach it; lower the minimum or raise the count";

const TOO_MANY_SPARE =
  "with aggregation.privacy secure, participants.sample.overselect may be at most n - t, where n = count + overselect and t = floor(2n / 3) + 1: the sum of a cohort with more members missing cannot be opened; lower overselect or raise count";

/** How many participants a round with this sample wants of `candidates` that can be invited: at least 1 where there are any, at most all. */
export function wanted(sample: Sample | undefined, candidates: number): number {
  if (!sample) return candidates;
  // A decimal fraction has no exact binary one: 0.07 × 100 is 7.000000000000001, which must not become 8.
  const share = Math.ceil(decimalNumber(sample.fraction ?? "1") * candidates - 1e-9);
  return Math.min(candidates, sample.count ?? Math.max(1, share));
}

/** Members of a secure session of n that may be missing: n − t for t = ⌊2n/3⌋ + 1. */
export function spareOf(n: number): number {
  return n - Math.floor((2 * n) / 3) - 1;
}

/**
 * Why no round can run by these settings; absent where it can. A fraction becomes a number only at planning, so its minimum and
 * overselect are judged there, with `count` the number wanted.
 */
export function sampleProblem(
  { minimum, sample }: { minimum: number; sample?: Sample | undefined },
  privacy: "secure" | "trusted",
  count: number | undefined = sample?.count,
): string | undefined {
  if (!sample || count === undefined) return undefined;
  if (minimum > count) return MINIMUM_ABOVE_COUNT;
  const overselect = sample.overselect ?? 0;
  return privacy === "secure" && overselect > spareOf(count + overselect) ? TOO_MANY_SPARE : undefined;
}

/** @param path  of `participants`, such as "self.spec.participants" */
export function minimumRule(path: string): CelRule {
  const count = `${path}.sample.count`;
  const without = [`!has(${path})`, `!has(${path}.minimum)`, `!has(${path}.sample)`, `!has(${count})`].join(" || ");
  return { rule: `${without} || ${path}.minimum <= ${count}`, message: `spec.${MINIMUM_ABOVE_COUNT}` };
}

/** @param spec  the path of a Federation's spec. n − t is ⌈n/3⌉ − 1, and CEL's division of integers rounds down. */
export function overselectRule(spec: string): CelRule {
  const sample = `${spec}.participants.sample`;
  const without = [`!has(${sample})`, `!has(${sample}.count)`, `!has(${sample}.overselect)`].join(" || ");
  return {
    rule: `${spec}.aggregation.privacy != 'secure' || ${without} || ${sample}.overselect <= (${sample}.count + ${sample}.overselect + 2) / 3 - 1`,
    message: TOO_MANY_SPARE.replace("participants.sample", "spec.participants.sample"),
  };
}
