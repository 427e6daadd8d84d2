/** containerd, kubelet and kube-proxy: the one node of a cluster. */
import { mkdirSync, statfsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { certificateDir } from "./certificates.ts";
import { succeeds } from "./commands.ts";
import { programKubeconfig } from "./control-plane.ts";
import { binDir, type Cluster } from "./layout.ts";
import { DNS_ADDRESS } from "./network.ts";
import { ensureRunning } from "./processes.ts";

export const PAUSE_IMAGE = "localhost/pause:1";

/** Magic number of overlayfs in statfs(2). */
const OVERLAYFS = 0x794c7630;

/** Layers cannot be stacked on a root that is itself an overlay (a container's): there they are copied. */
export function snapshotterOn(dir: string): "native" | "overlayfs" {
  return statfsSync(dir).type === OVERLAYFS ? "native" : "overlayfs";
}

export function ensureContainerd(cluster: Cluster, mountsOf: number): void {
  const { stateDir, runDir } = cluster;
  const cni = join(stateDir, "cni");
  mkdirSync(cni, { recursive: true });
  writeFileSync(join(cni, "10-pods.conflist"), JSON.stringify(podNetwork(cluster)));
  const config = join(stateDir, "containerd.toml");
  writeFileSync(config, containerdConfig(cluster, cni));
  ensureRunning(cluster, { name: "containerd", mountsOf, argv: ["containerd", "--config", config] });
  mkdirSync(runDir, { recursive: true });
}

export function containerdAnswers(cluster: Cluster): Promise<boolean> {
  return succeeds("ctr", "--connect-timeout=1s", "--address", cluster.containerdSocket, "version");
}

/**
 * ptp and not bridge: each packet between two pods of the node is routed, so that kube-proxy's rules see it. Over a bridge the answer of a
 * pod that was reached through its Service would bypass them where br_netfilter is not loaded. It knows no NetworkPolicy.
 */
function podNetwork(cluster: Cluster) {
  const ipam = {
    type: "host-local",
    ranges: [[{ subnet: cluster.podCidr }]],
    routes: [{ dst: "0.0.0.0/0" }],
  };
  return { cniVersion: "1.0.0", name: cluster.scope, plugins: [{ type: "ptp", ipMasq: true, ipam }] };
}

function containerdConfig(cluster: Cluster, cni: string): string {
  return `version = 2
root = "${join(cluster.stateDir, "containerd")}"
state = "${join(cluster.runDir, "containerd")}"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "${cluster.containerdSocket}"
[plugins."io.containerd.grpc.v1.cri"]
  # A root without CAP_SYS_RESOURCE cannot give the pause container the score -998.
  restrict_oom_score_adj = true
  sandbox_image = "${PAUSE_IMAGE}"
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "${cni}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "${snapshotterOn(cluster.stateDir)}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
`;
}

export function ensureKubelet(cluster: Cluster, mountsOf: number): void {
  const pki = (file: string) => join(certificateDir(cluster), file);
  const config = join(cluster.stateDir, "kubelet.json");
  const settings = {
    apiVersion: "kubelet.config.k8s.io/v1beta1",
    kind: "KubeletConfiguration",
    containerRuntimeEndpoint: `unix://${cluster.containerdSocket}`,
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: pki("ca.crt") },
    },
    authorization: { mode: "Webhook" },
    tlsCertFile: pki("kubelet-server.crt"),
    tlsPrivateKeyFile: pki("kubelet-server.key"),
    clusterDomain: "cluster.local",
    clusterDNS: [DNS_ADDRESS],
    // Both kinds of host work; v1 is what small virtual machines and CI still have.
    failCgroupV1: false,
    cgroupDriver: "cgroupfs",
    cgroupRoot: `/${cluster.scope}`,
    enforceNodeAllocatable: [],
    failSwapOn: false,
    oomScoreAdj: 0,
    // Tests kill programs again and again: a node that lets them wait for minutes would be all that they test.
    crashLoopBackOff: { maxContainerRestartPeriod: "1s" },
    podLogsDir: join(cluster.stateDir, "pod-logs"),
    // The disk is the host's: its being full otherwise is no reason to evict pods, or to delete images that cannot be pulled again.
    evictionHard: { "memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%" },
    imageGCHighThresholdPercent: 100,
    imageGCLowThresholdPercent: 99,
  };
  writeFileSync(config, JSON.stringify(settings, null, 2));
  ensureRunning(cluster, {
    name: "kubelet",
    mountsOf,
    argv: [
      join(binDir, "kubelet"),
      `--config=${config}`,
      `--kubeconfig=${programKubeconfig(cluster, "kubelet")}`,
      `--hostname-override=${cluster.name}`,
      `--node-ip=${cluster.address}`,
      `--root-dir=${join(cluster.stateDir, "kubelet")}`,
    ],
  });
}

export function ensureKubeProxy(cluster: Cluster): void {
  ensureRunning(cluster, {
    name: "kube-proxy",
    argv: [
      join(binDir, "kube-proxy"),
      `--kubeconfig=${programKubeconfig(cluster, "kube-proxy")}`,
      `--hostname-override=${cluster.name}`,
      "--proxy-mode=iptables",
      `--cluster-cidr=${cluster.podCidr}`,
      // The limits of connection tracking belong to the host; they cannot be set in a namespace.
      "--conntrack-max-per-core=0",
      "--conntrack-tcp-timeout-established=0",
      "--conntrack-tcp-timeout-close-wait=0",
      "--oom-score-adj=0",
    ],
  });
}
