/** A candidate that cannot be made of a sum and its parent, however often it is tried: a value that is not finite, a tensor that is not there. */
export class NoCandidate extends Error {
  override readonly name = "NoCandidate";
}
