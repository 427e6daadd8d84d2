/**
 * The one table from a fault to what status says: a reason (CamelCase) and a sentence that a person can act on.
 * A fault without an outcome does not compile.
 */
import type { LostParticipant, RoundFault } from "./faults.ts";

export interface Outcome {
  phase: "Failed" | "Cancelled";
  reason: string;
  message: string;
}

const outcomes: { [C in RoundFault["code"]]: (fault: Extract<RoundFault, { code: C }>) => string } = {
  FederationNotFound: (f) =>
    `there is no Federation "${f.federation}" in this namespace; create it, then create the round again`,
  InvalidSettings: (f) => `Federation "${f.federation}" cannot be used: ${f.problem}`,
  InitialiseFailed: (f) => `Federation "${f.federation}" has no adapter to start from: ${f.problem}`,
  TooFewParticipants: (f) =>
    `minimum is ${f.minimum}, but ${f.available} ${f.available === 1 ? "Participant" : "Participants"} can be invited` +
    `${listed("not enrolled", f.notEnrolled)}${listed("suspended", f.suspended)}${listed("left out for inconsistent shares until they enrol anew", f.leftOut)}; lower the minimum or let more sites join`,
  PlanFailed: (f) => `no plan could be made: ${f.problem}`,
  QuorumLost: (f) => `${f.possible} of ${f.invited} can still contribute, ${f.minimum} are needed; ${lost(f.lost)}`,
  DrawFailed: (f) =>
    `${f.remaining} ${f.remaining === 1 ? "participant is" : "participants are"} left after the draw of cohorts, ${f.needed} are needed; ${lost(f.lost)}`,
  CohortTooSmall: (f) => f.problems.join("; "),
  NotEnoughShares: (f) => f.problems.join("; "),
  SumInvalid: (f) => f.problems.join("; "),
  InconsistentShares: (f) =>
    `${f.dealers.map(({ participant }) => participant).join(", ")} dealt shares that do not fit together, which shows only at the end; ${f.dealers.some(({ leftOut }) => leftOut) ? "later rounds of this federation go without, until the site enrols anew (raise spec.enrolment)" : "or one of the members that answered revealed a wrong share: too few did to tell, and nobody is left out"}`,
  AggregationFailed: (f) => `the contributions could not be added: ${f.problem}`,
  DeadlineExceeded: () => "the candidate was not finished by the aggregation deadline; raise deadlines.aggregation",
  RegistryUnreachable: (f) => `nothing was published before the aggregation deadline: ${f.problem}`,
  RegistryRefused: (f) => `the registry would not take the adapter: ${f.problem}`,
  ActivationFailed: (f) =>
    `version ${f.version} is in the registry, but its AdapterVersion could not be written: ${f.problem}; free its name or give the operator the right`,
  StorageFull: (f) => f.problem,
  Cancelled: (f) =>
    f.by === "deletion"
      ? "the round was deleted before it ended"
      : "the round was cancelled (spec.cancel) before it ended",
};

export function outcomeOf(fault: RoundFault): Outcome {
  const message = (outcomes[fault.code] as (f: RoundFault) => string)(fault);
  return { phase: fault.code === "Cancelled" ? "Cancelled" : "Failed", reason: fault.code, message };
}

/** Names first: a sentence is cut at the end (1024 characters is plenty for a condition, 256 for a table). */
function lost(participants: LostParticipant[]): string {
  const shown = participants.slice(0, 8).map((p) => `${p.name} ${p.state}${p.message ? ` (${p.message})` : ""}`);
  const more = participants.length - shown.length;
  return shown.join("; ") + (more > 0 ? `; and ${more} more` : "");
}

function listed(what: string, names: string[]): string {
  if (names.length === 0) return "";
  const more = names.length > 8 ? ` and ${names.length - 8} more` : "";
  return ` (${what}: ${names.slice(0, 8).join(", ")}${more})`;
}
