/** Writes the AdapterVersion of what was published; from then on `kubectl get av` and the next round see it. */
import { adapterVersionName } from "../../../api/adapter-version.ts";
import type { RoundRecord } from "../../../round/record.ts";
import { writeAdapterVersion } from "../../adapter-version/write.ts";
import type { Context } from "../../context.ts";
import type { Workplace } from "../workplace.ts";

/** @throws KubeFault */
export async function activate(context: Context, workplace: Workplace, record: RoundRecord): Promise<void> {
  const { plan } = await workplace.plan(record);
  const { version, digest, reference } = record.published!;
  await writeAdapterVersion(context, adapterVersionName(record.federation, version), {
    federation: record.federation,
    version,
    parent: plan.parent.version,
    round: record.name,
    digest,
    adapterDigest: record.candidate!.digest,
    reference,
    baseModel: plan.baseModel,
    rank: plan.adapter.rank,
    alpha: plan.adapter.alpha,
    contributors: record.candidate!.contributors,
  });
}
