/** Faults between clusters, for tests. Each is undone by its opposite, and `up` restores a cut link. */
import { command, succeeds } from "./commands.ts";
import { findCluster } from "./layout.ts";

export { killProgram } from "./processes.ts";

/** Pulls the cable: the cluster goes on working, and neither the host nor another cluster reaches it, nor it them. */
export async function cutLink(name: string): Promise<void> {
  await command("ip", "link", "set", findCluster(name).veth, "down");
}

export async function restoreLink(name: string): Promise<void> {
  await command("ip", "link", "set", findCluster(name).veth, "up");
}

/** Drops all packets between this cluster and the others; the host still reaches it, so that a test can look inside. */
export async function isolate(name: string): Promise<void> {
  for (const rule of isolationRules(name)) {
    if (!(await inNamespace(name, "-C", rule))) await inNamespace(name, "-I", rule);
  }
}

export async function rejoin(name: string): Promise<void> {
  for (const rule of isolationRules(name)) while (await inNamespace(name, "-D", rule));
}

/**
 * Loses packets between this cluster and the others at random, in both directions; not those to and from the host.
 * By iptables and not by `tc netem`, which small kernels lack.
 * @param share  of packets, between 0 and 1
 */
export async function losePackets(name: string, share: number): Promise<void> {
  await stopLosing(name);
  for (const rule of lossRules(name, share)) await inNamespace(name, "-I", rule);
}

export async function stopLosing(name: string): Promise<void> {
  const { scope } = findCluster(name);
  const listed = await command("nsenter", `--net=/run/netns/${scope}`, "iptables", "-t", "mangle", "-S");
  const rules = listed.split("\n").filter((line) => line.includes("--mode random"));
  for (const rule of rules) await inNamespace(name, "-D", rule.split(" ").slice(1));
}

function lossRules(name: string, share: number): string[][] {
  return isolationRules(name).map((rule) => [
    ...rule.slice(0, -2),
    ...["-m", "statistic", "--mode", "random", "--probability", String(share)],
    ...rule.slice(-2),
  ]);
}

/** In the mangle table, which comes before the nat and filter rules that kube-proxy rewrites. */
function isolationRules(name: string): string[][] {
  const { set } = findCluster(name);
  return [
    ["PREROUTING", "-i", "eth0", "-m", "iprange", "!", "--src-range", `${set.gateway}-${set.gateway}`, "-j", "DROP"],
    ["POSTROUTING", "-o", "eth0", "-m", "iprange", "!", "--dst-range", `${set.gateway}-${set.gateway}`, "-j", "DROP"],
  ];
}

function inNamespace(name: string, action: string, rule: string[]): Promise<boolean> {
  const { scope } = findCluster(name);
  return succeeds("nsenter", `--net=/run/netns/${scope}`, "iptables", "-t", "mangle", action, ...rule);
}
