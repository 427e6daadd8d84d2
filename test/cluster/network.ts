/**
 * The network of a set: one bridge with the host as gateway, and per cluster one namespace with one veth pair on the bridge. It
 * plays the internet between clusters: every node address is reachable from the host, from every node and, masqueraded, from every pod.
 */
import { existsSync, readFileSync } from "node:fs";
import { command, succeeds } from "./commands.ts";
import type { Cluster, ClusterSet } from "./layout.ts";

export async function ensureBridge(set: ClusterSet): Promise<void> {
  if (!(await succeeds("ip", "link", "show", set.bridge)))
    await command("ip", "link", "add", set.bridge, "type", "bridge");
  await command("ip", "addr", "replace", `${set.gateway}/24`, "dev", set.bridge);
  await command("ip", "link", "set", set.bridge, "up");
  if (bridgedPacketsMeetIptables() && !(await succeeds("iptables", "-C", ...acceptBridged(set)))) {
    await command("iptables", "-I", ...acceptBridged(set));
  }
}

export async function removeBridge(set: ClusterSet): Promise<void> {
  while (bridgedPacketsMeetIptables() && (await succeeds("iptables", "-D", ...acceptBridged(set))));
  await succeeds("ip", "link", "del", set.bridge);
}

/** Where Docker runs, br_netfilter sends bridged packets through the host's FORWARD chain, whose policy Docker sets to DROP. */
function bridgedPacketsMeetIptables(): boolean {
  const file = "/proc/sys/net/bridge/bridge-nf-call-iptables";
  return existsSync(file) && readFileSync(file, "utf8").trim() === "1";
}

function acceptBridged(set: ClusterSet): string[] {
  return ["FORWARD", "-i", set.bridge, "-o", set.bridge, "-j", "ACCEPT"];
}

/** Whole: the namespace exists and its address is on its interface. */
export async function hasNamespace(cluster: Cluster): Promise<boolean> {
  try {
    return (await command("ip", "-n", cluster.scope, "addr", "show", "eth0")).includes(` ${cluster.address}/`);
  } catch {
    return false;
  }
}

export async function makeNamespace(cluster: Cluster): Promise<void> {
  const { scope, set, veth, address } = cluster;
  await command("ip", "netns", "add", scope);
  await command("ip", "link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", scope);
  await command("ip", "link", "set", veth, "master", set.bridge, "up");
  await command("ip", "-n", scope, "link", "set", "lo", "up");
  await command("ip", "-n", scope, "addr", "add", `${address}/24`, "dev", "eth0");
  await command("ip", "-n", scope, "link", "set", "eth0", "up");
  await command("ip", "-n", scope, "route", "add", "default", "via", set.gateway);
  const inNamespace = (...argv: string[]) => command("nsenter", `--net=/run/netns/${scope}`, ...argv);
  await inNamespace("sysctl", "-q", "-w", "net.ipv4.ip_forward=1");
  // There is no DNS in these clusters; a pod's lookup shall fail at once and not after 10 s.
  await inNamespace("iptables", "-I", "FORWARD", "-d", DNS_ADDRESS, "-j", "REJECT");
}

export async function removeNamespace(cluster: Cluster): Promise<void> {
  await succeeds("ip", "link", "del", cluster.veth);
  await succeeds("ip", "netns", "del", cluster.scope);
}

/** The link of a cluster that was cut (faults.ts) is whole again after `up`. */
export async function ensureLink(cluster: Cluster): Promise<void> {
  await command("ip", "link", "set", cluster.veth, "up");
}

/** kubelet writes it into each pod's resolv.conf; nobody listens. */
export const DNS_ADDRESS = "10.96.0.10";
