/** Writes the candidate: parent + mean of the deltas, F32, named by its digest. Idempotent: the same sum gives the same file. */
import type { RoundRecord } from "../../../round/record.ts";
import type { Context } from "../../context.ts";
import { repositoryOf } from "../../registry.ts";
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
  const { parent, publish } = await workplace.plan(record.uid);
  const repository = () => repositoryOf(context.client, context.config.namespace, publish.oci);
  const { file: parentFile } = await context.adapters.ensure(parent, repository);
  const sum = await workplace.sum(record.uid);
  const { digest, byteLength } = await sum.candidate(parentFile, context.adapters.scratch(record.uid));
  return { digest, byteLength, file: await context.adapters.keep(context.adapters.scratch(record.uid), digest) };
}
