/**
 * Pushes the candidate to the federation's registry and makes it the active version in the journal.
 * Idempotent: number, files and manifest are the same in every try, so that the registry already has what an earlier try sent.
 */
import { adapterVersionName } from "../../../api/adapter-version.ts";
import { PublishFault } from "../../../publish/fault.ts";
import { formatAdapterConfig } from "../../../publish/peft.ts";
import { pushAdapter } from "../../../publish/push-adapter.ts";
import type { RoundRecord } from "../../../round/record.ts";
import type { Context } from "../../context.ts";
import { repositoryOf } from "../../registry.ts";
import type { ActiveVersion } from "../../versions.ts";
import type { Workplace } from "../workplace.ts";

/** @throws PublishFault */
export async function publishCandidate(
  context: Context,
  workplace: Workplace,
  record: RoundRecord,
  signal: AbortSignal,
): Promise<ActiveVersion> {
  const { plan, parent, publish } = await workplace.plan(record.uid);
  const candidate = record.candidate!;
  const version = await context.versions.numberFor(record.federation, record.uid);
  const repository = await repositoryOf(context.client, context.config.namespace, publish.oci, { signal });
  const { baseModel, adapter } = plan;
  const startedMs = context.now();
  const seconds = () => (context.now() - startedMs) / 1000;
  const files = { weights: candidate.file, config: formatAdapterConfig({ baseModel, ...adapter }), rank: adapter.rank };
  const lineage = {
    federation: record.federation,
    version,
    baseModel,
    round: record.name,
    parentDigest: parent.digest,
  };
  const pushed = await pushAdapter(repository, files, lineage).catch((error: unknown) => {
    context.metrics.pushed("failed", seconds());
    if (signal.aborted) throw new PublishFault("RegistryUnreachable", `${repository.name} did not take it in time`);
    throw error;
  });
  context.metrics.pushed("published", seconds());
  const active: ActiveVersion = {
    version,
    name: adapterVersionName(record.federation, version),
    digest: pushed.digest,
    adapterDigest: pushed.adapterDigest,
    reference: pushed.reference,
    byteLength: pushed.byteLength,
  };
  await context.journal.commit([context.versions.activation(record.federation, active)]);
  context.versions.activated(record.federation, active);
  return active;
}
