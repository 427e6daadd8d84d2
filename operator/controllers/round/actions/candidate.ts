/** Writes the candidate: parent + mean of the deltas, F32, named by its digest. Idempotent: the same sum gives the same file. */
import type { Plan } from "../../../round/plan.ts";
import type { RoundMetrics, RoundRecord } from "../../../round/record.ts";
import { keepClips } from "../../clips.ts";
import type { Context } from "../../context.ts";
import { repositoryOf } from "../../registry.ts";
import { meanLoss } from "../losses.ts";
import type { SecureResult } from "../secure-sum.ts";
import { SumAgain } from "../sum-threads.ts";
import type { Workplace } from "../workplace.ts";

export interface CandidateFile {
  digest: string;
  file: string;
  byteLength: number;
  metrics?: RoundMetrics;
}

/** @throws SumAgain; Error with a sentence */
export async function makeCandidate(
  context: Context,
  workplace: Workplace,
  record: RoundRecord,
): Promise<CandidateFile> {
  const { plan, parent, publish } = await workplace.plan(record);
  const repository = (signal: AbortSignal) =>
    repositoryOf(context.client, context.config.namespace, publish.oci, { signal });
  const { file: parentFile } = await context.adapters.ensure(parent, repository);
  const outFile = context.adapters.scratch(record.uid);
  const { digest, ...made } = plan.secure
    ? await fromSecureSum(context, workplace, { plan, record }, { parentFile, outFile })
    : await (await workplace.sum(record)).candidate(parentFile, outFile);
  return { digest, ...made, file: await context.adapters.keep(outFile, digest) };
}

/** Together with what the sum says about the next round's clips: after a restart there is no sum any more to ask. */
async function fromSecureSum(
  context: Context,
  workplace: Workplace,
  { plan, record }: { plan: Plan; record: RoundRecord },
  { parentFile, outFile }: { parentFile: string; outFile: string },
): Promise<Omit<CandidateFile, "file">> {
  const sum = await workplace.secureSum(record);
  const result = sum.result();
  if (!result) throw new SumAgain("no cohort of this round has a sum yet");
  const written = await sum.candidate(parentFile, outFile);
  await context.journal.commit(keepClips(plan, record.uid, result));
  const summary = summaryOf(plan, result);
  context.log.info({ round: record.name, ...summary }, "the candidate was made of an unmasked sum");
  const { contributors, metrics: sums } = result;
  const tokens = sums.get("tokens") ?? 0;
  const metrics = meanLoss({ contributors, tokens, lossTokens: sums.get("lossTokens") ?? 0 });
  return { ...written, ...(metrics && { metrics }) };
}

/** What a person may want to know of a sum, and nothing that is one participant's. Many saturated values: the clips are too small. */
function summaryOf(plan: Plan, { contributors, saturated }: SecureResult) {
  const values = plan.tensors.reduce((sum, { shape }) => sum + shape[0]! * shape[1]!, 0);
  return {
    contributors,
    saturatedShare: saturated.reduce((sum, count) => sum + count, 0) / (values * contributors),
  };
}
