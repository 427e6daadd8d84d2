/** Removes what only an open round needs: spool files, the secret key, the plan, the sum, a candidate that was not published. */
import type { RoundRecord } from "../../../round/record.ts";
import { forgetUploads } from "../../../transport/upload-record.ts";
import { type Context, federationId } from "../../context.ts";
import { planRemovals } from "../stored-plan.ts";
import type { Workplace } from "../workplace.ts";

export async function cleanUp(context: Context, workplace: Workplace, record: RoundRecord): Promise<void> {
  if (!workplace.firstCleanUp(record.uid)) return;
  await workplace.close(record);
  for (const { root } of record.contributions) await context.spool.remove(root);
  if (record.number !== undefined)
    await forgetUploads(context.journal, federationId(context, record.federation), record.number);
  // Uploads that never ended are known by their root alone: they go when no round is left that could want them.
  if (workplace.desk.open().length === 0)
    for (const { root } of await context.spool.list()) await context.spool.remove(root);
  await context.journal.commit(planRemovals(record.uid));
  await context.adapters.prune(await wanted(context, workplace), context.now());
}

/** What an open round may still read, and the adapters that the next rounds start from. */
async function wanted(context: Context, workplace: Workplace): Promise<Set<string>> {
  const digests = new Set<string>();
  for (const record of workplace.desk.open()) {
    if (record.candidate) digests.add(record.candidate.digest);
    if (record.plan) digests.add((await workplace.plan(record.uid)).parent.adapterDigest);
  }
  for (const federation of new Set(workplace.desk.all().map((record) => record.federation))) {
    const active = context.versions.active(federation);
    if (active) digests.add(active.adapterDigest);
  }
  return digests;
}
