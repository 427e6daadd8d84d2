/** Creates an AdapterVersion. Idempotent by its name: one that is there already must say the same. */
import type { AdapterVersionSpec } from "../../api/adapter-version.ts";
import { isKubeFault } from "../../kube/faults.ts";
import { ADAPTER_VERSIONS } from "../../kube/resources.ts";
import type { Context } from "../context.ts";

/** @throws Error when another adapter has this name; KubeFault */
export async function writeAdapterVersion(context: Context, name: string, spec: AdapterVersionSpec): Promise<void> {
  const metadata = { name, namespace: context.config.namespace, labels: { "rondo.dev/federation": spec.federation } };
  try {
    context.caches.adapterVersions.put(await context.client.create(ADAPTER_VERSIONS, { metadata, spec }));
  } catch (error) {
    if (!isKubeFault(error, "AlreadyExists")) throw error;
    const known = await context.client.get(ADAPTER_VERSIONS, metadata);
    const digest = (known?.spec as AdapterVersionSpec | undefined)?.digest;
    if (digest !== spec.digest)
      throw new Error(`AdapterVersion ${name} exists and is another adapter; delete it if it is a leftover`);
    if (known) context.caches.adapterVersions.put(known);
  }
}
