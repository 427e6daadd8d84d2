/**
 * Pushes the candidate to the federation's registry and writes down that it is published and active.
 * Idempotent: number, files and manifest are the same in every try, so that the registry already has what an earlier try sent.
 */
import { adapterVersionName } from "../../../api/adapter-version.ts";
import { PublishFault } from "../../../publish/fault.ts";
import { formatAdapterConfig } from "../../../publish/peft.ts";
import { pushAdapter } from "../../../publish/push-adapter.ts";
import { isTerminal, type RoundRecord } from "../../../round/record.ts";
import { clipWrites } from "../../clips.ts";
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
  const { plan, parent, publish } = await workplace.plan(record);
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
  await activateIn(context, workplace, record, active);
  return active;
}

/**
 * In one commit, so that no crash comes between, and only while the round is open: a push that came to its end after the round had
 * failed must not become the parent of the next one.
 */
async function activateIn(context: Context, workplace: Workplace, record: RoundRecord, active: ActiveVersion) {
  const { version, digest, reference } = active;
  const { desk } = workplace;
  const clips = await clipWrites(context.journal, record.federation, record.uid);
  const now = desk.get(record.uid);
  if (!now || isTerminal(now)) throw new PublishFault("Refused", "the round had ended before the push did");
  const publish = (open: RoundRecord) => ({ ...open, published: { version, digest, reference } });
  await desk.update(record.uid, publish, [context.versions.activation(record.federation, active), ...clips]);
  context.versions.activated(record.federation, active);
}
