/** metav1.LabelSelector over labels, as the API server's own selectors work. Pure. */
import type { LabelSelector } from "../api/fields.ts";
import type { Participant } from "../api/participant.ts";
import type { Candidate } from "../round/world.ts";

export function selects(selector: LabelSelector, labels: Record<string, string> = {}): boolean {
  const exact = Object.entries(selector.matchLabels ?? {}).every(([key, value]) => labels[key] === value);
  return exact && (selector.matchExpressions ?? []).every((requirement) => meets(requirement, labels));
}

function meets(
  requirement: NonNullable<LabelSelector["matchExpressions"]>[number],
  labels: Record<string, string>,
): boolean {
  const value = labels[requirement.key];
  const values = requirement.values ?? [];
  switch (requirement.operator) {
    case "In":
      return value !== undefined && values.includes(value);
    case "NotIn":
      return value === undefined || !values.includes(value);
    case "Exists":
      return value !== undefined;
    case "DoesNotExist":
      return value === undefined;
  }
}

/**
 * Those that the selector matches, by name; being deleted counts as suspended.
 * @param isLeftOut  by its name and identity
 */
export function candidatesOf(
  selector: LabelSelector,
  participants: readonly Participant[],
  isLeftOut: (participant: string, identity: string | undefined) => boolean = () => false,
): Candidate[] {
  return participants
    .filter((participant) => selects(selector, participant.metadata.labels))
    .map((participant) => ({
      name: participant.metadata.name,
      enrolled: identityOf(participant) !== undefined,
      suspended: participant.spec.suspended || participant.metadata.deletionTimestamp !== undefined,
      ...(isLeftOut(participant.metadata.name, identityOf(participant)) && { leftOut: true }),
    }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Base64; a key from before spec.enrolment was raised does not count any more. */
export function identityOf(participant: Participant): string | undefined {
  const { identity, enrolment } = participant.spec;
  return identity && identity.enrolment === enrolment ? identity.ed25519 : undefined;
}
