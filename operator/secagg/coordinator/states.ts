/**
 * Where one cohort stands, seen from the coordinator (secure-aggregation.md §3).
 * Holds: a state has what its step needs and nothing that could be made again from the messages; nothing in it is secret, for a
 * coordinator has no secrets of the protocol. All of it is immutable: a step returns the next state and leaves the old one whole.
 */
import type { Advertisement, IndexedSignature, SessionTerms, ShareKeys, SignedInput, Unmask } from "../messages.ts";

/** Answers by the index of the member that gave them. */
export type Answers<A> = ReadonlyMap<number, A>;

/** M0 is awaited from every member of the cohort. Left for Sharing. */
export interface Advertising {
  step: "advertise";
  answers: Answers<Advertisement>;
}

interface Keys {
  /** U1, ascending by index. */
  u1: readonly Advertisement[];
  t1: Uint8Array;
}

/** M1 is awaited from U1. Left for Masking. */
export interface Sharing extends Keys {
  step: "share";
  answers: Answers<ShareKeys>;
}

interface Shares extends Keys {
  /** U2, ascending; `shared` is theirs alone. */
  u2: readonly number[];
  shared: Answers<ShareKeys>;
}

/** Masked vectors are awaited from U2. Left for Comparing. */
export interface Masking extends Shares {
  step: "mask";
  answers: Answers<SignedInput>;
}

interface Inputs extends Shares {
  /** U3, ascending by index. */
  u3: readonly SignedInput[];
  t2: Uint8Array;
}

/** M3 is awaited from U3. Left for Unmasking. */
export interface Comparing extends Inputs {
  step: "consistency";
  answers: Answers<IndexedSignature>;
}

interface Signatures extends Inputs {
  /** The "t2" signatures of those members of U3 that gave one in time, ascending: only they can answer what follows. */
  signatures: readonly IndexedSignature[];
}

/** M4 is awaited from those who signed. Left for Complete. */
export interface Unmasking extends Signatures {
  step: "unmask";
  answers: Answers<Unmask>;
}

/** At least t members have revealed their shares: recover.ts takes it from here. */
export interface Complete extends Signatures {
  step: "complete";
  answers: Answers<Unmask>;
}

export type CohortState = Advertising | Sharing | Masking | Comparing | Unmasking | Complete;
export type CohortStep = CohortState["step"];

export const nameOf = (terms: SessionTerms, index: number): string =>
  terms.members[index - 1]?.participant ?? `member ${index}`;

/** The state with one more answer; the map is copied, at most 128 references. */
export const withAnswer = <A>(answers: Answers<A>, index: number, answer: A): Answers<A> =>
  new Map([...answers, [index, answer]]);

/** Those answers that `members` gave, in the order of `members`. */
export const answersOf = <A>(answers: Answers<A>, members: readonly number[]): A[] =>
  members.map((index) => answers.get(index)!);
