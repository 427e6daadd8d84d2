/** etcd, API server, controller manager and scheduler of one cluster. Their flags are the subject of this file; what is not named has its default. */
import { join } from "node:path";
import { certificateDir, writeKubeconfig } from "./certificates.ts";
import { binDir, type Cluster } from "./layout.ts";
import { ensureRunning } from "./processes.ts";

/** etcd and the API server; the others make sense when it answers. */
export function ensureApiServer(cluster: Cluster): void {
  const pki = (file: string) => join(certificateDir(cluster), file);
  ensureRunning(cluster, {
    name: "etcd",
    argv: [
      join(binDir, "etcd"),
      `--data-dir=${join(cluster.stateDir, "etcd")}`,
      // Loopback of the cluster's own namespace: only its API server is there.
      "--listen-client-urls=http://127.0.0.1:2379",
      "--advertise-client-urls=http://127.0.0.1:2379",
      "--listen-peer-urls=http://127.0.0.1:2380",
      "--initial-advertise-peer-urls=http://127.0.0.1:2380",
      "--initial-cluster=default=http://127.0.0.1:2380",
      // A killed process loses nothing by it, a power failure may: such a cluster is taken down and brought up anew.
      "--unsafe-no-fsync",
      "--log-level=warn",
    ],
  });
  ensureRunning(cluster, {
    name: "kube-apiserver",
    argv: [
      join(binDir, "kube-apiserver"),
      "--etcd-servers=http://127.0.0.1:2379",
      "--bind-address=0.0.0.0",
      "--secure-port=6443",
      `--advertise-address=${cluster.address}`,
      "--service-cluster-ip-range=10.96.0.0/16",
      "--authorization-mode=Node,RBAC",
      "--enable-admission-plugins=NodeRestriction",
      "--anonymous-auth=false",
      `--client-ca-file=${pki("ca.crt")}`,
      `--tls-cert-file=${pki("kube-apiserver.crt")}`,
      `--tls-private-key-file=${pki("kube-apiserver.key")}`,
      `--kubelet-certificate-authority=${pki("ca.crt")}`,
      `--kubelet-client-certificate=${pki("kube-apiserver-kubelet-client.crt")}`,
      `--kubelet-client-key=${pki("kube-apiserver-kubelet-client.key")}`,
      // Nobody resolves the node's name, and `kubectl logs` and `exec` would try that first.
      "--kubelet-preferred-address-types=InternalIP",
      "--service-account-issuer=https://kubernetes.default.svc",
      `--service-account-key-file=${pki("service-accounts.pub")}`,
      `--service-account-signing-key-file=${pki("service-accounts.key")}`,
      "--profiling=false",
    ],
  });
}

export function ensureControllers(cluster: Cluster): void {
  const pki = (file: string) => join(certificateDir(cluster), file);
  const scheduler = programKubeconfig(cluster, "kube-scheduler");
  const controllers = programKubeconfig(cluster, "kube-controller-manager");
  ensureRunning(cluster, {
    name: "kube-controller-manager",
    argv: [
      join(binDir, "kube-controller-manager"),
      `--kubeconfig=${controllers}`,
      "--use-service-account-credentials",
      // Looks every second instead of every 5 at the nodes, since the taint of a new one is removed there.
      "--node-monitor-period=1s",
      `--service-account-private-key-file=${pki("service-accounts.key")}`,
      `--root-ca-file=${pki("ca.crt")}`,
      "--leader-elect=false",
      "--profiling=false",
    ],
  });
  ensureRunning(cluster, {
    name: "kube-scheduler",
    argv: [join(binDir, "kube-scheduler"), `--kubeconfig=${scheduler}`, "--leader-elect=false", "--profiling=false"],
  });
}

/** @returns the path of a kubeconfig under the program's own name */
export function programKubeconfig(cluster: Cluster, program: string): string {
  const path = join(certificateDir(cluster), `${program}.kubeconfig`);
  writeKubeconfig(cluster, program, path);
  return path;
}
