/**
 * Whole objects for tests, as the API server would give them: a good one of each kind, with what the test says on top.
 * Holds: defaults are those of the schemas.
 */
import {
  type AdapterVersion,
  type AdapterVersionSpec,
  adapterVersionName,
  adapterVersionSchema,
} from "../adapter-version.ts";
import { type Federation, type FederationSpecInput, type FederationStatus, federationSchema } from "../federation.ts";
import {
  type FederationRound,
  type FederationRoundSpec,
  type FederationRoundStatus,
  federationRoundSchema,
} from "../federation-round.ts";
import type { ObjectMeta } from "../metadata.ts";
import { type Participant, type ParticipantSpec, type ParticipantStatus, participantSchema } from "../participant.ts";
import { API_VERSION } from "../resource.ts";

export const NAMESPACE = "rondo";
const DIGEST = `sha256:${"0".repeat(64)}`;

type Parts<Spec, Status> = { metadata?: Partial<ObjectMeta>; spec?: Partial<Spec>; status?: Partial<Status> };

/** What a person writes at least. */
export const federationSpecInput: FederationSpecInput = {
  baseModel: { name: "rondo/tiny-llama", digest: DIGEST },
  training: { image: "registry.example/rondo-trainer:test", steps: 2 },
  participants: { selector: { matchLabels: { sector: "health" } }, minimum: 2 },
  aggregation: { privacy: "trusted" },
  publish: { oci: { repository: "registry.example/adapters/clinic-notes" } },
};

export function federation({ metadata, spec, status }: Parts<FederationSpecInput, FederationStatus> = {}): Federation {
  return federationSchema.parse({
    apiVersion: API_VERSION,
    kind: "Federation",
    metadata: meta("clinic-notes", metadata),
    spec: { ...federationSpecInput, ...spec },
    status,
  });
}

export function federationRound({
  metadata,
  spec,
  status,
}: Parts<FederationRoundSpec, FederationRoundStatus> = {}): FederationRound {
  return federationRoundSchema.parse({
    apiVersion: API_VERSION,
    kind: "FederationRound",
    metadata: meta("clinic-notes-r1", metadata),
    spec: { federation: "clinic-notes", ...spec },
    status,
  });
}

export function participant(
  name: string,
  { metadata, spec, status }: Parts<ParticipantSpec, ParticipantStatus> = {},
): Participant {
  return participantSchema.parse({
    apiVersion: API_VERSION,
    kind: "Participant",
    metadata: meta(name, { labels: { sector: "health" }, ...metadata }),
    spec: { enrolment: 1, suspended: false, ...spec },
    status,
  });
}

export function adapterVersion(version: number, spec: Partial<AdapterVersionSpec> = {}): AdapterVersion {
  const federationName = spec.federation ?? "clinic-notes";
  return adapterVersionSchema.parse({
    apiVersion: API_VERSION,
    kind: "AdapterVersion",
    metadata: meta(adapterVersionName(federationName, version), {}),
    spec: {
      federation: federationName,
      version,
      digest: DIGEST,
      adapterDigest: DIGEST,
      reference: `registry.example/adapters/clinic-notes@${DIGEST}`,
      baseModel: { name: "rondo/tiny-llama", revision: "main", digest: DIGEST },
      rank: 8,
      alpha: 16,
      contributors: 0,
      ...spec,
    },
  });
}

function meta(name: string, over: Partial<ObjectMeta> = {}): ObjectMeta {
  return {
    name,
    namespace: NAMESPACE,
    uid: `uid-of-${over.name ?? name}`,
    resourceVersion: "1",
    generation: 1,
    creationTimestamp: "2026-01-01T00:00:00Z",
    ...over,
  };
}
