/** Everything that can end a round without an adapter, as data. outcome.ts says what a person reads. */
export interface LostParticipant {
  name: string;
  state: string;
  message: string;
}

export type RoundFault =
  | { code: "FederationNotFound"; federation: string }
  | { code: "InvalidSettings"; federation: string; problem: string }
  | { code: "InitialiseFailed"; federation: string; problem: string }
  | {
      code: "TooFewParticipants";
      minimum: number;
      available: number;
      notEnrolled: string[];
      suspended: string[];
      leftOut: string[];
    }
  | { code: "PlanFailed"; problem: string }
  | { code: "QuorumLost"; possible: number; minimum: number; invited: number; lost: LostParticipant[] }
  | { code: "DrawFailed"; remaining: number; needed: number; lost: LostParticipant[] }
  /** Secure aggregation: so few cohorts are left that the quorum is lost with them; each says why in a sentence. */
  | { code: "CohortTooSmall"; problems: string[] }
  | { code: "NotEnoughShares"; problems: string[] }
  | { code: "SumInvalid"; problems: string[] }
  | { code: "InconsistentShares"; dealers: Array<{ participant: string; leftOut: boolean }> }
  | { code: "AggregationFailed"; problem: string }
  | { code: "DeadlineExceeded" }
  | { code: "RegistryUnreachable"; problem: string }
  | { code: "RegistryRefused"; problem: string }
  | { code: "ActivationFailed"; version: number; problem: string }
  /** Nothing could begin for want of room on the operator's volume. */
  | { code: "StorageFull"; problem: string }
  | { code: "Cancelled"; by: "deletion" | "spec" };
