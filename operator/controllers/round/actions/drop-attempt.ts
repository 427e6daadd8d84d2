/**
 * Removes what only an attempt that has ended needs: its answers, its vectors in the spool, its sum. Its plan stays: the next one is made of it.
 * Idempotent; after a restart it is done once more, and touches nothing of a later attempt.
 */

import type { RoundRecord } from "../../../round/record.ts";
import { forgetUploads } from "../../../transport/upload-record.ts";
import { type Context, federationId } from "../../context.ts";
import { forgetAnswers } from "../cohort-machines.ts";
import type { Workplace } from "../workplace.ts";
import { removeSpooled } from "./clean-up.ts";

/** @param attempt  below the record's */
export async function dropAttempt(
  context: Context,
  workplace: Workplace,
  record: RoundRecord,
  attempt: number,
): Promise<void> {
  const of = { uid: record.uid, attempt };
  if (!workplace.firstDrop(of)) return;
  try {
    await workplace.closeAttempt(of);
    const work = { federation: federationId(context, record.federation), round: record.number!, attempt };
    await removeSpooled(context, workplace, await forgetUploads(context.journal, work));
    const answers = await forgetAnswers(context.journal, of);
    if (answers.length > 0) await context.journal.commit(answers);
  } catch (error) {
    workplace.dropFailed(of);
    throw error;
  }
}
