/**
 * Which file each piece of work is uploaded as, in the journal: the first manifest of a work is the only one, and a receipt once
 * given is given again (protocol.md "Everything is idempotent").
 */
import { z } from "zod";
import type { Journal } from "../journal/journal.ts";
import { TransportFault } from "./faults.ts";
import type { Work } from "./generated/rondo.v1.ts";

const SPACE = "transport/uploads";

const recordSchema = z.strictObject({
  root: z.string().regex(/^[0-9a-f]{64}$/),
  byteLength: z.int().min(1),
  state: z.enum(["begun", "received"]),
});
export type UploadRecord = z.infer<typeof recordSchema>;

/** What is known of this work's upload. @throws TransportFault "ManifestDiffers" when it began with another file */
export async function recordedUpload(
  journal: Journal,
  work: Work,
  { root, byteLength }: { root: string; byteLength: number },
): Promise<UploadRecord | undefined> {
  const value = await journal.get(SPACE, keyOf(work));
  if (!value) return undefined;
  const record = recordSchema.parse(JSON.parse(Buffer.from(value).toString()));
  if (record.root !== root || record.byteLength !== byteLength) {
    throw new TransportFault(
      "ManifestDiffers",
      "The upload of this work began with another file, which stays the only one",
    );
  }
  return record;
}

export async function recordUpload(journal: Journal, work: Work, record: UploadRecord): Promise<void> {
  const value = Buffer.from(JSON.stringify(record));
  await journal.commit([{ put: { space: SPACE, key: keyOf(work), value } }]);
}

/** Forgets all uploads of a round that has ended: none is expected any more. */
export async function forgetUploads(journal: Journal, federation: string, round: number): Promise<void> {
  const entries = await journal.entries(SPACE, `${federation}/${round}/`);
  if (entries.length > 0) await journal.commit(entries.map(({ key }) => ({ remove: { space: SPACE, key } })));
}

/** None of the last four has a slash, so that no two works share a key. */
function keyOf({ federation, round, attempt, purpose, participant }: Work): string {
  return `${federation}/${round}/${attempt}/${purpose}/${participant}`;
}
