/** Can this machine run the clusters? Answered before anything is touched, in one sentence. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { makeCgroups, removeCgroups } from "./cgroups.ts";
import { command, succeeds } from "./commands.ts";
import { archiveOf } from "./images.ts";
import { binDir } from "./layout.ts";
import { PAUSE_IMAGE } from "./node.ts";

const PROGRAMS = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet"];
const TOOLS = ["containerd", "ctr", "runc", "ip", "iptables", "nsenter", "unshare", "sysctl", "conntrack"];

/** @returns what is missing, as a sentence; undefined when all is there */
export async function missingRequirement(): Promise<string | undefined> {
  if (process.platform !== "linux") return "Local clusters need Linux.";
  if (process.getuid?.() !== 0) return "Local clusters need root, because they make network namespaces and mounts.";
  for (const tool of TOOLS) {
    if (!(await succeeds("sh", "-c", `command -v ${tool}`)))
      return `The program "${tool}" is missing: run \`make setup\`.`;
  }
  if (!existsSync("/usr/lib/cni/ptp")) return "The CNI plugins are missing: run `make setup`.";
  const absent = PROGRAMS.find((program) => !existsSync(join(binDir, program)));
  if (absent) return `${join(binDir, absent)} is missing: run \`make setup\`.`;
  if (!existsSync(archiveOf(PAUSE_IMAGE))) return `The image ${PAUSE_IMAGE} is missing: run \`make setup\`.`;
  return missingKernelFacility();
}

/** Tries each one, since containers and small kernels lack them in many ways. */
async function missingKernelFacility(): Promise<string | undefined> {
  const probe = `rondo-probe-${process.pid}`;
  const bridge = `rondop${process.pid}`.slice(0, 15);
  try {
    await command("ip", "netns", "add", probe);
    await command("ip", "link", "add", bridge, "type", "bridge");
    await command(
      "nsenter",
      `--net=/run/netns/${probe}`,
      "iptables",
      "-t",
      "nat",
      "-A",
      "POSTROUTING",
      "-j",
      "MASQUERADE",
    );
    await command("unshare", "--mount", "true");
    makeCgroups(probe);
    return undefined;
  } catch (error) {
    return `This system does not let local clusters run (${(error as Error).message.split("\n")[0]}).`;
  } finally {
    await succeeds("ip", "link", "del", bridge);
    await succeeds("ip", "netns", "del", probe);
    await removeCgroups(probe).catch(() => undefined);
  }
}
