/** What a test does to Rondo's own workloads, and to the trainers' Jobs and pods, with the hands of a cluster's administrator. */
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import type { KubeClient } from "../../../operator/kube/client.ts";
import type { KubeObject } from "../../../operator/kube/objects.ts";
import { JOBS, PODS } from "../../../operator/kube/resources.ts";
import { NAMESPACE } from "../../demo/install.ts";
import type { Kubectl } from "../../demo/programs.ts";
import type { Program } from "../failures/crashes.ts";
import { eventually } from "../failures/rounds.ts";
import type { Site } from "../failures/site.ts";

/** @param workload  such as statefulset/rondo-operator */
export async function scale(kubectl: Kubectl, workload: string, replicas: number): Promise<void> {
  await kubectl.run(["-n", NAMESPACE, "scale", workload, `--replicas=${replicas}`]);
}

/** @returns when so many pods of the program exist, running or not */
export async function podsAre(kube: KubeClient, program: Program, count: number): Promise<void> {
  const labelSelector = `app.kubernetes.io/component=${program}`;
  await eventually(async () => {
    const { items } = await kube.list(PODS, { namespace: NAMESPACE, labelSelector });
    expect(items.map(({ metadata }) => metadata.name)).toHaveLength(count);
  }, 120_000);
}

/** All that is in it; the folder may be a mount and stays. */
export function emptyFolder(path: string): void {
  for (const name of readdirSync(path)) rmSync(join(path, name), { recursive: true, force: true });
}

/** @returns the name of the newest trainer pod of the round at this site */
export async function trainerOf({ kube }: Site, round: string): Promise<string> {
  const pods = await kube.list(PODS, { namespace: NAMESPACE, labelSelector: `rondo.dev/round=${round}` });
  return newest(pods.items);
}

export async function jobOf({ kube }: Site, round: string): Promise<string> {
  const jobs = await kube.list(JOBS, { namespace: NAMESPACE, labelSelector: `rondo.dev/round=${round}` });
  return newest(jobs.items);
}

/** As a drained node or a node under pressure does it. */
export async function evict({ kubectl }: Site, pod: string): Promise<void> {
  const eviction = { apiVersion: "policy/v1", kind: "Eviction", metadata: { name: pod, namespace: NAMESPACE } };
  const path = `/api/v1/namespaces/${NAMESPACE}/pods/${pod}/eviction`;
  await kubectl.run(["create", "--raw", path, "-f", "-"], JSON.stringify(eviction));
}

function newest(objects: readonly KubeObject[]): string {
  const byAge = [...objects].sort((a, b) =>
    (a.metadata.creationTimestamp ?? "").localeCompare(b.metadata.creationTimestamp ?? ""),
  );
  const last = byAge.at(-1);
  if (!last) throw new Error("there is none");
  return last.metadata.name;
}
