/**
 * The only door to client-node: kubeconfig files with everything people have in them (contexts, exec plugins, OIDC,
 * proxies). A module of its own, imported when a kubeconfig is used: a pod's ServiceAccount does not need it
 * (credentials.ts), and leaving it unloaded saves about 25 MiB of resident memory.
 */
import type { Agent, RequestOptions } from "node:https";
import { KubeConfig } from "@kubernetes/client-node";
import type { Credentials } from "./credentials.ts";

/** @param path  absent: $KUBECONFIG, then ~/.kube/config */
export async function readKubeconfig(path: string | undefined, contextName?: string): Promise<Credentials> {
  const config = new KubeConfig();
  if (path) config.loadFromFile(path);
  else config.loadFromDefault();
  if (contextName) config.setCurrentContext(contextName);
  const cluster = config.getCurrentCluster();
  if (!cluster) throw new Error(`kubeconfig ${path ?? "(default)"} has no current context with a cluster`);
  const options: RequestOptions & { headers: Record<string, string> } = { headers: {} };
  await config.applyToHTTPSOptions(options);
  const headers = { ...options.headers };
  if (options.auth) headers.Authorization = `Basic ${Buffer.from(options.auth).toString("base64")}`;
  const namespace = config.getContextObject(config.getCurrentContext())?.namespace;
  return {
    server: cluster.server,
    ...(namespace ? { namespace } : {}),
    headers,
    // Only a proxy needs the library's own agent; a plain one of ours is keep-alive and rebuilt when certificates change.
    ...(cluster.proxyUrl && options.agent ? { proxyAgent: options.agent as Agent } : {}),
    tls: {
      ...(options.ca ? { ca: options.ca } : {}),
      ...(options.cert ? { cert: options.cert } : {}),
      ...(options.key ? { key: options.key } : {}),
      ...(options.pfx ? { pfx: options.pfx } : {}),
      ...(options.passphrase ? { passphrase: options.passphrase } : {}),
      ...(options.servername ? { servername: options.servername } : {}),
      ...(options.rejectUnauthorized === false ? { rejectUnauthorized: false } : {}),
    },
  };
}
