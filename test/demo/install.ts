/**
 * What a platform team does by hand on its own clusters, done by the demo: volumes, registry, the operator's chart, an invitation per
 * site and the agent's chart. Everything is applied, so that a second run changes nothing and an interrupted one is completed.
 */
import { join } from "node:path";
import { nodeAddress } from "../cluster/layout.ts";
import { trainerPodTemplate } from "./pods.ts";
import type { Kubectl } from "./programs.ts";
import { registryObjects } from "./registry.ts";
import type { Site } from "./sites.ts";
import { claimed, type Folder, restrictedNamespace, writableFolder } from "./volumes.ts";

export const NAMESPACE = "rondo";
const AGENTS_PORT = 30_443;
const ENROLMENT_PORT = 30_444;
const image = { repository: "localhost/rondo", tag: "dev", pullPolicy: "Never" };

export interface Folders {
  /** Where operator, agents and registry keep their data; one folder each is made. */
  state: string;
  venv: string;
  model: string;
  /** Holds a folder per site. */
  data: string;
}

export async function installCoordinator(kubectl: Kubectl, folders: Folders): Promise<void> {
  const address = nodeAddress("coordinator");
  await kubectl.apply([
    restrictedNamespace(NAMESPACE),
    restrictedNamespace("registry"),
    ...claimed("registry", writable("storage", join(folders.state, "registry"))),
    ...claimed(NAMESPACE, writable("operator-data", join(folders.state, "operator"))),
    ...trainerFolders(folders).flatMap((folder) => claimed(NAMESPACE, folder)),
    ...registryObjects("registry"),
  ]);
  await kubectl.install("rondo", "charts/rondo", NAMESPACE, {
    image,
    trustDomain: "demo.rondo.dev",
    agents: { endpoint: `${address}:${AGENTS_PORT}` },
    enrolment: { endpoint: `${address}:${ENROLMENT_PORT}` },
    service: { type: "NodePort", nodePorts: { agents: AGENTS_PORT, enrolment: ENROLMENT_PORT } },
    persistence: { existingClaim: "operator-data" },
    initialise: { podTemplate: trainerPodTemplate({ data: false }) },
  });
  await kubectl.run(["-n", "registry", "rollout", "status", "deployment/registry", "--timeout=2m"]);
}

/** @param invitation the values that `rondo invite NAME -o values` printed */
export async function installAgent(
  kubectl: Kubectl,
  site: Site,
  folders: Folders,
  { invitation, minCohort }: { invitation: object; minCohort: number },
): Promise<void> {
  await kubectl.apply([
    restrictedNamespace(NAMESPACE),
    ...claimed(NAMESPACE, writable("agent-data", join(folders.state, site.name))),
    ...trainerFolders(folders, site).flatMap((folder) => claimed(NAMESPACE, folder)),
  ]);
  await kubectl.install("rondo-agent", "charts/rondo-agent", NAMESPACE, {
    image,
    ...invitation,
    persistence: { existingClaim: "agent-data" },
    policy: {
      federations: ["demo.rondo.dev/rondo/dictionaries"],
      images: ["localhost/rondo-trainer:*"],
      privacy: ["secure"],
      minCohort,
      gpus: { max: 2 },
    },
    podTemplate: trainerPodTemplate({ data: true }),
  });
}

const writable = (name: string, path: string): Folder => ({
  name,
  path: writableFolder(path),
  access: "ReadWriteOnce",
});

const trainerFolders = (folders: Folders, site?: Site): Folder[] => [
  { name: "venv", path: folders.venv, access: "ReadOnlyMany" },
  { name: "model", path: folders.model, access: "ReadOnlyMany" },
  ...(site ? [{ name: "data", path: join(folders.data, site.name), access: "ReadOnlyMany" as const }] : []),
];
