/** Removes what only an open round needs: spool files, the secret key, the answers of secure aggregation, the plan, the sum, a candidate that was not published. */
import type { Write } from "../../../journal/journal.ts";
import type { RoundRecord } from "../../../round/record.ts";
import { forgetUploads } from "../../../transport/upload-record.ts";
import { clipRemovals } from "../../clips.ts";
import { type Context, federationId } from "../../context.ts";
import { forgetAnswers } from "../cohort-machines.ts";
import { planRemovals, readPlan } from "../stored-plan.ts";
import type { Workplace } from "../workplace.ts";

export async function cleanUp(context: Context, workplace: Workplace, record: RoundRecord): Promise<void> {
  if (!workplace.firstCleanUp(record.uid)) return;
  try {
    await workplace.close(record);
    const over = await adaptersOf(context, record);
    await removeUploads(context, workplace, record);
    await context.journal.commit([
      ...planRemovals(record),
      ...(await answersOf(context, record)),
      ...clipRemovals(record.uid),
    ]);
    await context.adapters.prune(await wanted(context, workplace), over, context.now());
  } catch (error) {
    // The reconcile comes again: the secret key must not stay because a file could not be removed.
    workplace.cleanUpFailed(record.uid);
    throw error;
  }
}

/** Of all attempts: one that was to be dropped may not have been. */
async function answersOf({ journal }: Context, { uid, attempt: last }: RoundRecord): Promise<Write[]> {
  const attempts = Array.from({ length: last }, (_, i) => forgetAnswers(journal, { uid, attempt: i + 1 }));
  return (await Promise.all(attempts)).flat();
}

async function removeUploads(context: Context, workplace: Workplace, record: RoundRecord): Promise<void> {
  const roots = new Set(record.contributions.map(({ root }) => root));
  if (record.number !== undefined) {
    const federation = federationId(context, record.federation);
    for (const root of await forgetUploads(context.journal, { federation, round: record.number })) roots.add(root);
  }
  // What a crash left without a name goes when no round is left that could want it.
  if (workplace.desk.open().length === 0) for (const { root } of await context.spool.list()) roots.add(root);
  await removeSpooled(context, workplace, roots);
}

/** Equal bytes are one file in the spool: what an open round has counted stays, whoever sends the same in the name of a round that has ended. */
export async function removeSpooled(
  context: Pick<Context, "spool">,
  { desk }: Pick<Workplace, "desk">,
  roots: Iterable<string>,
): Promise<void> {
  for (const root of roots) {
    const isCounted = desk.open().some(({ contributions }) => contributions.some((counted) => counted.root === root));
    if (!isCounted) await context.spool.remove(root);
  }
}

/** What this round began from and what it made. Nothing where its plan is gone already: then their age removes them. */
async function adaptersOf({ journal }: Context, { uid, candidate }: RoundRecord): Promise<Set<string>> {
  const plan = await readPlan(journal, { uid, attempt: 1 });
  return new Set([plan?.parent.adapterDigest, candidate?.digest].filter((digest) => digest !== undefined));
}

/** What an open round may still read, and the adapters that the next rounds start from. */
async function wanted(context: Context, workplace: Workplace): Promise<Set<string>> {
  const digests = new Set<string>();
  for (const record of workplace.desk.open()) {
    if (record.candidate) digests.add(record.candidate.digest);
    if (record.plan) digests.add((await workplace.plan(record, 1)).parent.adapterDigest);
  }
  for (const federation of workplace.desk.federations()) {
    const active = context.versions.active(federation);
    if (active) digests.add(active.adapterDigest);
  }
  return digests;
}
