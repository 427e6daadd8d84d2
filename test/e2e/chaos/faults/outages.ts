/** API servers, lines and the registry away, slow, lossy or hostile, some for as long as the run's outages are (two minutes in `make chaos`). */
import {
  cutLink,
  isolate,
  killProgram,
  losePackets,
  rejoin,
  restoreLink,
  stopLosing,
} from "../../../cluster/faults.ts";
import { findCluster } from "../../../cluster/layout.ts";
import { runningPid } from "../../../cluster/processes.ts";
import { up } from "../../../cluster/up.ts";
import { slowDown, speedUp } from "../../failures/crashes.ts";
import type { Arena } from "../arena.ts";
import { each, type Fault, fails, succeeds } from "../fault.ts";
import { MOMENTS } from "../moments.ts";

const SLOW_KIB_PER_SECOND = 256;
const LOSS = 0.05;

const apiServer = (cluster: string): Pick<Fault, "strike" | "lasts" | "heal"> => ({
  async strike() {
    for (const program of ["kube-apiserver", "etcd"]) await killProgram(findCluster(cluster), program);
  },
  lasts: "outage",
  async heal({ clusters }) {
    await up([...clusters]);
  },
});

const everySite = ({ under }: Arena, change: (name: string) => Promise<void>) =>
  Promise.all(under.sites.map(({ name }) => change(name))).then(() => undefined);

export const outages: readonly Fault[] = [
  {
    name: "API server of the operator's cluster down",
    slug: "api-op",
    quick: true,
    at: each(MOMENTS, succeeds),
    ...apiServer("coordinator"),
  },
  { name: "API server of a site down", slug: "api-site", at: each(MOMENTS, succeeds), ...apiServer("south") },
  {
    name: "API servers hang: connections open, no answer",
    slug: "api-hang",
    at: each(["training", "aggregating"], succeeds),
    async strike() {
      for (const cluster of ["coordinator", "west"]) signal(cluster, "SIGSTOP");
    },
    lasts: "briefly",
    async heal() {
      for (const cluster of ["coordinator", "west"]) signal(cluster, "SIGCONT");
    },
  },
  {
    name: "a site's line cut",
    slug: "line-site",
    quick: true,
    at: each(MOMENTS, succeeds),
    strike: () => cutLink("west"),
    lasts: "outage",
    heal: () => restoreLink("west"),
  },
  {
    name: "the operator cut off from all sites",
    slug: "line-op",
    at: each(MOMENTS, succeeds),
    strike: () => isolate("coordinator"),
    lasts: "outage",
    heal: () => rejoin("coordinator"),
  },
  {
    name: `slow lines: ${SLOW_KIB_PER_SECOND} KiB/s from every site`,
    slug: "slow",
    at: each(MOMENTS, succeeds),
    strike: (arena) => everySite(arena, (name) => slowDown(name, SLOW_KIB_PER_SECOND)),
    lasts: "outage",
    heal: (arena) => everySite(arena, (name) => speedUp(name, SLOW_KIB_PER_SECOND)),
  },
  {
    name: "lossy lines: 5 % of packets, both ways",
    slug: "loss",
    at: each(MOMENTS, succeeds),
    strike: () => losePackets("coordinator", LOSS),
    lasts: "outage",
    heal: () => stopLosing("coordinator"),
  },
  {
    name: "registry down",
    slug: "reg-down",
    at: each(["planning", "publishing"], succeeds),
    strike: ({ gate }) => gate.close(),
    lasts: "outage",
    heal: ({ gate }) => gate.open(),
  },
  {
    name: "registry answers 500",
    slug: "reg-500",
    at: each(["planning", "publishing"], succeeds),
    strike: async ({ gate }) => gate.become("failing"),
    lasts: "briefly",
    heal: async ({ gate }) => gate.become("fair"),
  },
  {
    name: "registry denies access until after the deadline",
    slug: "reg-deny",
    at: { publishing: fails("RegistryRefused") },
    spec: { deadlines: { aggregation: "1m" } },
    strike: async ({ gate }) => gate.become("denying"),
    also: async ({ gate }) => gate.become("fair"),
  },
  {
    name: "registry breaks every upload in the middle",
    slug: "reg-cut",
    at: { publishing: succeeds },
    strike: async ({ gate }) => gate.become("cutting"),
    lasts: "briefly",
    heal: async ({ gate }) => gate.become("fair"),
  },
  {
    name: "registry slow: 2 s for every request",
    slug: "reg-slow",
    at: each(["planning", "publishing"], succeeds),
    strike: async ({ gate }) => gate.become("slow"),
  },
  {
    name: "registry's pod deleted during a push",
    slug: "reg-pod",
    at: { publishing: succeeds },
    async strike({ under }) {
      await under.coordinator.run(["-n", "registry", "delete", "pod", "--all", "--wait=false"]);
    },
  },
];

function signal(cluster: string, name: NodeJS.Signals): void {
  const pid = runningPid(findCluster(cluster), "kube-apiserver");
  if (pid !== undefined) process.kill(pid, name);
}
