/** The Federations that rounds are made in: the tiny one of the examples, with short deadlines and without rounds of its own. */
import { readFileSync } from "node:fs";
import { expect } from "vitest";
import { parseAllDocuments } from "yaml";
import type { Federation, FederationSpecInput } from "../../../operator/api/federation.ts";
import { FEDERATIONS } from "../../../operator/kube/resources.ts";
import { nodeAddress } from "../../cluster/layout.ts";
import { NAMESPACE } from "../../demo/install.ts";
import { REGISTRY_PORT } from "../../demo/registry.ts";
import { type FederationUnderTest, SECTOR } from "./federation.ts";
import { eventually } from "./rounds.ts";

export interface FederationObject {
  apiVersion: string;
  kind: "Federation";
  metadata: { name: string; namespace: string };
  spec: FederationSpecInput;
}

/** Of 9 MiB and not of 300 kB: an upload lasts. */
export const LARGE = {
  rank: 256,
  alpha: 256,
  targetModules: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
};

/** @param registry  host:port; by itself the one in the coordinator's cluster */
export function federation(
  name: string,
  adapter: Partial<Federation["spec"]["adapter"]> = {},
  registry = `${nodeAddress("coordinator")}:${REGISTRY_PORT}`,
): FederationObject {
  const documents = parseAllDocuments(readFileSync("examples/demo/federation-tiny.yaml", "utf8"));
  const example = documents.map((document) => document.toJS() as Federation).find(({ kind }) => kind === "Federation")!;
  const { rounds: _, ...spec } = example.spec;
  return {
    apiVersion: example.apiVersion,
    kind: example.kind,
    metadata: { name, namespace: NAMESPACE },
    spec: {
      ...spec,
      adapter: { ...spec.adapter, ...adapter },
      training: { ...spec.training, steps: 2, resources: { ...spec.training.resources, memory: "1Gi", cpu: "50m" } },
      participants: { selector: { matchLabels: SECTOR }, minimum: 3 },
      deadlines: { accept: "90s", training: "2m", aggregation: "1m" },
      publish: { oci: { repository: `${registry}/adapters/${name}`, plainHTTP: true } },
    },
  };
}

/** Three of four are needed to open a sum; where one contribution is to be enough, the operator may see it. */
export function trusted({ spec, ...rest }: FederationObject): FederationObject {
  const participants = { ...spec.participants, minimum: 1 };
  return { ...rest, spec: { ...spec, participants, aggregation: { ...spec.aggregation, privacy: "trusted" } } };
}

export function inviting({ spec, ...rest }: FederationObject, labels: Record<string, string>): FederationObject {
  return { ...rest, spec: { ...spec, participants: { ...spec.participants, selector: { matchLabels: labels } } } };
}

/** Of the tests in this folder. */
export const standardFederations = (): FederationObject[] => [
  federation("small"),
  federation("large", LARGE),
  trusted(federation("trusted")),
];

/** @returns when each of them has an adapter to start from */
export async function haveVersions({ kube }: FederationUnderTest, names: readonly string[]): Promise<void> {
  await eventually(async () => {
    for (const name of names) {
      const made = (await kube.get(FEDERATIONS, { namespace: NAMESPACE, name })) as unknown as Federation;
      expect(made.status.activeAdapter, name).toBeDefined();
    }
  }, 300_000);
}
