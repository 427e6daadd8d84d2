/** Writes the candidate: parent + mean of the deltas, F32, named by its digest. Idempotent: the same sum gives the same file. */
import type { Plan } from "../../../round/plan.ts";
import type { RoundRecord } from "../../../round/record.ts";
import { keepClips } from "../../clips.ts";
import type { Context } from "../../context.ts";
import { repositoryOf } from "../../registry.ts";
import type { SecureResult } from "../secure-sum.ts";
import type { Workplace } from "../workplace.ts";

export interface CandidateFile {
  digest: string;
  file: string;
  byteLength: number;
}

/** @throws Error with a sentence */
export async function makeCandidate(
  context: Context,
  workplace: Workplace,
  record: RoundRecord,
): Promise<CandidateFile> {
  const { plan, parent, publish } = await workplace.plan(record.uid);
  const repository = () => repositoryOf(context.client, context.config.namespace, publish.oci);
  const { file: parentFile } = await context.adapters.ensure(parent, repository);
  const outFile = context.adapters.scratch(record.uid);
  const { digest, byteLength } = plan.secure
    ? await fromSecureSum(context, workplace, { plan, record }, { parentFile, outFile })
    : await (await workplace.sum(record.uid)).candidate(parentFile, outFile);
  return { digest, byteLength, file: await context.adapters.keep(outFile, digest) };
}

/** Together with what the sum says about the next round's clips: after a restart there is no sum any more to ask. */
async function fromSecureSum(
  context: Context,
  workplace: Workplace,
  { plan, record: { uid, name } }: { plan: Plan; record: RoundRecord },
  { parentFile, outFile }: { parentFile: string; outFile: string },
): Promise<{ digest: string; byteLength: number }> {
  const sum = await workplace.secureSum(uid);
  const result = sum.result();
  if (!result) throw new Error("no cohort of this round has a sum");
  const written = await sum.candidate(parentFile, outFile);
  await context.journal.commit(keepClips(plan, uid, result));
  context.log.info({ round: name, ...summaryOf(plan, result) }, "the candidate was made of an unmasked sum");
  return written;
}

/** What a person may want to know of a sum, and nothing that is one participant's. Many saturated values: the clips are too small. */
function summaryOf(plan: Plan, { contributors, metrics, saturated }: SecureResult) {
  const values = plan.tensors.reduce((sum, { shape }) => sum + shape[0]! * shape[1]!, 0);
  const tokens = metrics.get("tokens") ?? 0;
  return {
    contributors,
    ...(tokens > 0 && { tokens, meanLoss: (metrics.get("lossTokens") ?? 0) / tokens }),
    saturatedShare: saturated.reduce((sum, count) => sum + count, 0) / (values * contributors),
  };
}
