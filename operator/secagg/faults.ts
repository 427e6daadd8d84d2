/**
 * Everything that ends a session of secure aggregation, or makes one message of it unacceptable.
 * Holds: a sentence names members by their participant names and has nothing of keys, shares or vectors.
 */
export const SECAGG_CODES = [
  // A participant aborts: what the coordinator showed it is not what an honest one would.
  "RosterDiffers",
  "KeysInvalid",
  "OwnKeysDiffer",
  "TooFewMembers",
  "TranscriptDiffers",
  "BadShare",
  "SurvivorsInvalid",
  "InputInvalid",
  "TooFewSignatures",
  "SecondRequest",
  "OutOfOrder",
  // The coordinator does not take a participant's message.
  "MessageMalformed",
  "SignatureInvalid",
  "NotExpected",
  "AnswerDiffers",
  // A cohort cannot go on.
  "CohortTooSmall",
  "InconsistentDealer",
  "NotEnoughShares",
  "SumInvalid",
  // Values.
  "NonFinite",
  "RingOverflow",
] as const;
export type SecaggCode = (typeof SECAGG_CODES)[number];

export class SecaggFault extends Error {
  override readonly name = "SecaggFault";
  readonly code: SecaggCode;
  /** Participants whose doing this is, as far as it can be told. */
  readonly accused: readonly string[];

  /** @param message  one sentence for a person, at most 256 characters */
  constructor(code: SecaggCode, message: string, accused: readonly string[] = []) {
    super(message);
    this.code = code;
    this.accused = accused;
  }
}
