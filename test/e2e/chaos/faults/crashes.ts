/** Deaths of Rondo's own processes and of what they stand on. Nothing may be lost by any of them. */
import { join } from "node:path";
import { killEverythingIn } from "../../../cluster/cgroups.ts";
import { killProgram } from "../../../cluster/faults.ts";
import { findCluster } from "../../../cluster/layout.ts";
import { up } from "../../../cluster/up.ts";
import { NAMESPACE } from "../../../demo/install.ts";
import { claimed } from "../../../demo/volumes.ts";
import { deletePod, killProcess } from "../../failures/crashes.ts";
import { MOVED } from "../../failures/federation.ts";
import { eventually } from "../../failures/rounds.ts";
import type { Arena } from "../arena.ts";
import { each, type Fault, succeeds } from "../fault.ts";
import { MOMENTS } from "../moments.ts";
import { podsAre, scale } from "../workloads.ts";

const kubelet = async (arena: Arena, cluster: string) => {
  await killProgram(findCluster(cluster), "kubelet");
  await up([...arena.clusters]);
};

export const crashes: readonly Fault[] = [
  {
    name: "operator killed (SIGKILL)",
    slug: "op-kill",
    quick: true,
    at: each(MOMENTS, succeeds),
    async strike() {
      killProcess("coordinator", "operator");
    },
  },
  {
    name: "operator's pod deleted",
    slug: "op-pod",
    at: each(MOMENTS, succeeds),
    strike: ({ under }) => deletePod(under.kube, "operator"),
  },
  {
    name: "operator killed three times in a row",
    slug: "op-thrice",
    at: each(MOMENTS, succeeds),
    async strike() {
      // As soon as there is one again, ready or not.
      for (let i = 0; i < 3; i++) await eventually(() => killProcess("coordinator", "operator"), 120_000);
    },
  },
  {
    name: "operator moved, with its volume",
    slug: "op-moved",
    at: each(MOMENTS, succeeds),
    // The clusters have one node each: the pod is gone, the volume is bound anew at another path, a new pod finds it there.
    async strike({ under }) {
      const { coordinator, kube, state } = under;
      const volume = "pv/rondo-operator-data";
      const path = await coordinator.run(["get", volume, "-o", "jsonpath={.spec.hostPath.path}"]);
      await scale(coordinator, "statefulset/rondo-operator", 0);
      await podsAre(kube, "operator", 0);
      await coordinator.run(["-n", NAMESPACE, "delete", "pvc/operator-data"]);
      await coordinator.run(["delete", volume]);
      const moved = join(state, path.endsWith(MOVED) ? "operator" : MOVED);
      await coordinator.apply(claimed(NAMESPACE, { name: "operator-data", path: moved, access: "ReadWriteOnce" }));
      await scale(coordinator, "statefulset/rondo-operator", 1);
    },
  },
  {
    name: "agent killed (SIGKILL)",
    slug: "ag-kill",
    at: each(MOMENTS, succeeds),
    async strike() {
      killProcess("north", "agent");
    },
  },
  {
    name: "agent's pod deleted",
    slug: "ag-pod",
    at: each(MOMENTS, succeeds),
    strike: ({ under }) => deletePod(under.site("south").kube, "agent"),
  },
  {
    name: "operator and all agents killed at once",
    slug: "all-kill",
    at: each(MOMENTS, succeeds),
    async strike({ under }) {
      killProcess("coordinator", "operator");
      for (const { name } of under.sites) killProcess(name, "agent");
    },
  },
  {
    name: "kubelet killed and restarted, at a site and at the operator's",
    slug: "kubelet",
    at: each(["training", "aggregating"], succeeds),
    async strike(arena) {
      await kubelet(arena, "north");
      await kubelet(arena, "coordinator");
    },
  },
  {
    name: "containerd killed and restarted, at a site and at the operator's",
    slug: "containerd",
    at: each(["training", "aggregating"], succeeds),
    async strike(arena) {
      for (const cluster of ["north", "coordinator"]) await killProgram(findCluster(cluster), "containerd");
      await up([...arena.clusters]);
    },
  },
  {
    name: "a site's machine restarted: every process of its cluster killed",
    slug: "reboot",
    at: each(MOMENTS, succeeds),
    strike: (arena) => reboot(arena, "west"),
  },
  {
    name: "the operator's machine restarted",
    slug: "op-reboot",
    at: each(MOMENTS, succeeds),
    strike: (arena) => reboot(arena, "coordinator"),
  },
];

async function reboot({ clusters }: Arena, name: string): Promise<void> {
  await killEverythingIn(findCluster(name).scope);
  await up([...clusters]);
}
