/**
 * Lists of members that a coordinator shows: bounded, known, each once. Looked at before the first signature, so that a strange list costs nothing.
 */
import { type SecaggCode, SecaggFault } from "../faults.ts";
import type { SessionTerms } from "../messages.ts";

/** @throws SecaggFault `code` unless the indices are members of the cohort, each once and ascending */
export function checkMembers(terms: SessionTerms, indices: readonly number[], code: SecaggCode): void {
  const strange = strangeness(terms, indices);
  if (strange) throw new SecaggFault(code, `the coordinator ${strange}`);
}

/** What is wrong with a list, as the rest of a sentence that begins with "the coordinator". */
export function strangeness(terms: SessionTerms, indices: readonly number[]): string | undefined {
  const { length } = terms.members;
  if (indices.length > length) return `listed ${indices.length} members of a cohort of ${length}`;
  if (indices.some((index) => !Number.isInteger(index) || index < 1 || index > length)) {
    return "listed somebody who is not a member of the cohort";
  }
  const repeated = indices.find((index, at) => at > 0 && indices[at - 1] === index);
  if (repeated !== undefined) return `listed ${nameOf(terms, repeated)} twice`;
  if (indices.some((index, at) => at > 0 && indices[at - 1]! > index)) return "listed members out of order";
  return undefined;
}

/** @throws SecaggFault "TooFewMembers" below the threshold of this participant's own plan */
export function checkEnough(terms: SessionTerms, have: number, what: string): void {
  if (have >= terms.threshold) return;
  throw new SecaggFault("TooFewMembers", `${have} members ${what}, and ${terms.threshold} are needed`);
}

/** @param index  of a member of the cohort */
export const nameOf = (terms: SessionTerms, index: number): string => terms.members[index - 1]!.participant;
export const identityOf = (terms: SessionTerms, index: number): Uint8Array => terms.members[index - 1]!.identity;

export const isSubset = (some: readonly number[], all: readonly number[]): boolean => {
  const known = new Set(all);
  return some.every((index) => known.has(index));
};

export const isSameList = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((index, at) => index === b[at]);
