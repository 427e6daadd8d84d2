/** Deaths of Rondo's own pods, and a line between clusters that is slow enough to die in the middle of something. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import type { KubeClient } from "../../../operator/kube/client.ts";
import { PODS } from "../../../operator/kube/resources.ts";
import { processesIn } from "../../cluster/cgroups.ts";
import { command } from "../../cluster/commands.ts";
import { findCluster } from "../../cluster/layout.ts";
import { NAMESPACE } from "../../demo/install.ts";
import { eventually } from "./rounds.ts";

export type Program = "operator" | "agent";

const selector = (program: Program) => `app.kubernetes.io/component=${program}`;

/** Gracefully, as a drained node does. @returns when the pod is gone or another one has its name */
export async function deletePod(kube: KubeClient, program: Program): Promise<void> {
  const pod = await onlyPod(kube, program);
  await kube.delete(PODS, { namespace: NAMESPACE, name: pod.metadata.name });
  await eventually(async () => {
    const { items } = await pods(kube, program);
    if (items.some(({ metadata }) => metadata.uid === pod.metadata.uid)) throw new Error(`${pod.metadata.name} stays`);
  }, 120_000);
}

/** kill -9, seen from the node; kubelet starts the container again. */
export function killProcess(cluster: string, program: Program): void {
  const { scope } = findCluster(cluster);
  const ours = processesIn(scope).filter((pid) => commandLine(pid).includes(`main.js ${program} --config`));
  if (ours.length === 0) throw new Error(`no ${program} runs in ${cluster}`);
  for (const pid of ours) process.kill(pid, "SIGKILL");
}

/** @returns when a pod of it is Ready, and no other one is there */
export async function isReady(kube: KubeClient, program: Program, namespace = NAMESPACE): Promise<void> {
  await eventually(async () => {
    const { status, metadata } = await onlyPod(kube, program, namespace);
    const ready = status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True");
    if (!ready) throw new Error(`${metadata.name} is not Ready`);
  }, 120_000);
}

async function onlyPod(kube: KubeClient, program: Program, namespace = NAMESPACE) {
  const { items } = await pods(kube, program, namespace);
  if (items.length !== 1) throw new Error(`${items.length} pods of the ${program}, not one`);
  return items[0]!;
}

const pods = (kube: KubeClient, program: Program, namespace = NAMESPACE) =>
  kube.list(PODS, { namespace, labelSelector: selector(program) });

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
  } catch {
    return ""; // it has ended
  }
}

/** What leaves the cluster for the coordinator is dropped beyond this rate; TCP slows down to it. */
export async function slowDown(cluster: string, kibPerSecond: number): Promise<void> {
  await inNamespace(cluster, "-I", kibPerSecond);
}

export async function speedUp(cluster: string, kibPerSecond: number): Promise<void> {
  await inNamespace(cluster, "-D", kibPerSecond);
}

/** Whatever its rate was. */
export async function speedUpAll(cluster: string): Promise<void> {
  const { scope } = findCluster(cluster);
  const iptables = ["nsenter", `--net=/run/netns/${scope}`, "iptables", "-t", "mangle"] as const;
  const listed = await command(...iptables, "-S", "POSTROUTING");
  for (const rule of listed.split("\n").filter((line) => line.includes("--hashlimit-name slow-"))) {
    await command(...iptables, ...rule.replace(/^-A/, "-D").split(" "));
  }
}

async function inNamespace(cluster: string, action: "-I" | "-D", kibPerSecond: number): Promise<void> {
  const { scope } = findCluster(cluster);
  const rate = [
    "-m",
    "hashlimit",
    "--hashlimit-name",
    `slow-${kibPerSecond}`,
    "--hashlimit-above",
    `${kibPerSecond}kb/s`,
  ];
  const rule = ["POSTROUTING", "-o", "eth0", "-d", findCluster("coordinator").address, ...rate, "-j", "DROP"];
  await command("nsenter", `--net=/run/netns/${scope}`, "iptables", "-t", "mangle", action, ...rule);
}

/** Bytes that the operator's spool holds of uploads that have not ended, as the operator's volume shows them. */
export function bytesUnderWay(operatorFolder: string): number {
  const spool = join(operatorFolder, "spool");
  return readdirSync(spool)
    .filter((name) => name.endsWith(".partial"))
    .reduce((sum, name) => sum + (statSync(join(spool, name), { throwIfNoEntry: false })?.size ?? 0), 0);
}
