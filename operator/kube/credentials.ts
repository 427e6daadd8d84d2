/**
 * Where the API server is and how we prove who we are: the pod's ServiceAccount, or a kubeconfig.
 * Read anew from their files whenever the connection asks (connection.ts): tokens and certificates rotate.
 */
import { readFile } from "node:fs/promises";
import type { Agent, RequestOptions } from "node:https";

export type Credentials = {
  /** https://host:port, with or without a path */
  server: string;
  /** The namespace of the ServiceAccount or of the kubeconfig's context. */
  namespace?: string;
  headers: Record<string, string>;
  tls: Pick<RequestOptions, "ca" | "cert" | "key" | "pfx" | "passphrase" | "servername" | "rejectUnauthorized">;
  proxyAgent?: Agent;
};

/** Reads the credentials from where they are kept. */
export type CredentialSource = () => Promise<Credentials>;

const SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount";

/**
 * @param environment  process.env, read in main.ts: KUBERNETES_SERVICE_HOST and _PORT are set by kubelet
 * @param folder       where the projected token, ca.crt and namespace lie
 */
export function inCluster(environment: Record<string, string | undefined>, folder = SERVICE_ACCOUNT): CredentialSource {
  const host = environment.KUBERNETES_SERVICE_HOST;
  const port = environment.KUBERNETES_SERVICE_PORT ?? "443";
  if (!host) throw new Error("KUBERNETES_SERVICE_HOST is not set: this is no pod; give a kubeconfig");
  const server = `https://${host.includes(":") ? `[${host}]` : host}:${port}`;
  return async () => {
    const [token, ca, namespace] = await Promise.all([
      readFile(`${folder}/token`, "utf8"),
      readFile(`${folder}/ca.crt`, "utf8"),
      readFile(`${folder}/namespace`, "utf8").catch(() => ""),
    ]);
    return {
      server,
      ...(namespace ? { namespace: namespace.trim() } : {}),
      headers: { Authorization: `Bearer ${token.trim()}` },
      tls: { ca },
    };
  };
}

/** @param path  absent: $KUBECONFIG, then ~/.kube/config */
export function fromKubeconfig(path?: string, context?: string): CredentialSource {
  return async () => {
    const { readKubeconfig } = await import("./kubeconfig.ts");
    return readKubeconfig(path, context);
  };
}

/** A kubeconfig where one is named, the pod's ServiceAccount in a pod, else the user's own kubeconfig. */
export function defaultCredentials(
  environment: Record<string, string | undefined>,
  kubeconfig?: string,
): CredentialSource {
  if (!kubeconfig && !environment.KUBECONFIG && environment.KUBERNETES_SERVICE_HOST) return inCluster(environment);
  return fromKubeconfig(kubeconfig);
}
