/** One AdapterVersion: Active if it is its federation's newest, else Superseded. This controller watches versions only. */
import type { AdapterVersionStatus } from "../../api/adapter-version.ts";
import { adapterVersionSchema } from "../../api/adapter-version.ts";
import { DONE, type Result } from "../../kube/controller.ts";
import { ADAPTER_VERSIONS } from "../../kube/resources.ts";
import type { Context } from "../context.ts";
import { readAs, there } from "../objects.ts";

export async function reconcileAdapterVersion(context: Context, name: string): Promise<Result> {
  const { namespace } = context.config;
  const version = there(readAs(adapterVersionSchema, context.caches.adapterVersions.get({ namespace, name })));
  if (!version) return DONE;
  const newest = context.objects.newestVersionOf(version.spec.federation);
  const phase = newest?.metadata.name === name ? "Active" : "Superseded";
  if (version.status.phase === phase && version.status.observedGeneration === version.metadata.generation) return DONE;
  const status: AdapterVersionStatus = { observedGeneration: version.metadata.generation, phase };
  const written = await context.client.applyStatus(ADAPTER_VERSIONS, { metadata: { name, namespace }, status });
  context.caches.adapterVersions.put(written);
  return DONE;
}
