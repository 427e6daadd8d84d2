/**
 * Manifests for the admission tests: a good one of each kind, and a way to say what is different about another.
 * Does not: go through the zod schemas; here the API server is the judge.
 */
import { federationSpecInput } from "../../../operator/api/testing/objects.ts";

export type Manifest = {
  apiVersion: string;
  kind: string;
  metadata: { name: string; [part: string]: unknown };
  [part: string]: unknown;
};

const DIGEST = `sha256:${"0".repeat(64)}`;
const apiVersion = "rondo.dev/v1alpha1";

const { aggregation: _unsaid, ...spec } = federationSpecInput;

export const good = {
  federation: { apiVersion, kind: "Federation", metadata: { name: "clinic-notes" }, spec: federationSpecInput },
  /** What a person writes who leaves the aggregation to its defaults. */
  secure: {
    apiVersion,
    kind: "Federation",
    metadata: { name: "clinic-notes" },
    spec: { ...spec, participants: { ...spec.participants, minimum: 4 } },
  },
  round: { apiVersion, kind: "FederationRound", metadata: { name: "by-hand" }, spec: { federation: "clinic-notes" } },
  participant: { apiVersion, kind: "Participant", metadata: { name: "clinic-a", labels: { sector: "health" } } },
  adapterVersion: {
    apiVersion,
    kind: "AdapterVersion",
    metadata: { name: "clinic-notes-v3" },
    spec: {
      federation: "clinic-notes",
      version: 3,
      parent: 2,
      round: "clinic-notes-r3",
      digest: DIGEST,
      adapterDigest: DIGEST,
      reference: `registry.example/adapters/clinic-notes@${DIGEST}`,
      baseModel: { name: "m", revision: "main", digest: DIGEST },
      rank: 8,
      alpha: 16,
      contributors: 4,
    },
  },
} satisfies Record<string, Manifest>;

/** The manifest with values set (or, with undefined, removed) at dotted paths. */
export function changed(manifest: Manifest, changes: Record<string, unknown>): Manifest {
  const copy = structuredClone(manifest);
  for (const [path, value] of Object.entries(changes)) {
    const keys = path.split(".");
    const last = keys.pop()!;
    let at = copy as Record<string, unknown>;
    for (const key of keys) {
      at[key] ??= {};
      at = at[key] as Record<string, unknown>;
    }
    if (value === undefined) delete at[last];
    else at[last] = value;
  }
  return copy;
}
