/**
 * Which file each piece of work is uploaded as, in the journal: the first manifest of a work is the only one, and a receipt once
 * given is given again (protocol.md "Everything is idempotent").
 */
import { z } from "zod";
import { type Journal, JournalFault } from "../journal/journal.ts";
import { TransportFault } from "./faults.ts";
import type { Work } from "./generated/rondo.v1.ts";

const SPACE = "transport/uploads";

const recordSchema = z.strictObject({
  root: z.string().regex(/^[0-9a-f]{64}$/),
  byteLength: z.int().min(1),
  state: z.enum(["begun", "received"]),
});
export type UploadRecord = z.infer<typeof recordSchema>;
export type UploadedFile = Pick<UploadRecord, "root" | "byteLength">;

/** What is known of this work's upload. @throws TransportFault "ManifestDiffers" when it began with another file */
export async function recordedUpload(
  journal: Journal,
  work: Work,
  { root, byteLength }: UploadedFile,
): Promise<UploadRecord | undefined> {
  const value = await journal.get(SPACE, keyOf(work));
  if (!value) return undefined;
  const record = decode(value);
  if (record.root !== root || record.byteLength !== byteLength) {
    throw new TransportFault(
      "ManifestDiffers",
      "The upload of this work began with another file, which stays the only one",
    );
  }
  return record;
}

/** The first manifest of this work. @throws TransportFault "ManifestDiffers" when another stream was quicker with another file */
export async function recordBegun(journal: Journal, work: Work, upload: UploadedFile): Promise<void> {
  const value = encode({ ...upload, state: "begun" });
  try {
    await journal.commit([{ insert: { space: SPACE, key: keyOf(work), value } }]);
  } catch (error) {
    if (!(error instanceof JournalFault) || error.code !== "Exists") throw error;
    await recordedUpload(journal, work, upload);
  }
}

export async function recordReceived(journal: Journal, work: Work, upload: UploadedFile): Promise<void> {
  await journal.commit([{ put: { space: SPACE, key: keyOf(work), value: encode({ ...upload, state: "received" }) } }]);
}

/**
 * Forgets all uploads of a round that has ended, or of one of its attempts: none is expected any more.
 * @returns the roots of their files, whole or not
 */
export async function forgetUploads(
  journal: Journal,
  { federation, round, attempt }: Pick<Work, "federation" | "round"> & { attempt?: number },
): Promise<string[]> {
  const entries = await journal.entries(SPACE, `${federation}/${round}/${attempt === undefined ? "" : `${attempt}/`}`);
  if (entries.length > 0) await journal.commit(entries.map(({ key }) => ({ remove: { space: SPACE, key } })));
  return entries.map(({ value }) => decode(value).root);
}

function encode(record: UploadRecord): Uint8Array {
  return Buffer.from(JSON.stringify(record));
}

function decode(value: Uint8Array): UploadRecord {
  return recordSchema.parse(JSON.parse(Buffer.from(value).toString()));
}

/** None of the last four has a slash, so that no two works share a key. */
function keyOf({ federation, round, attempt, purpose, participant }: Work): string {
  return `${federation}/${round}/${attempt}/${purpose}/${participant}`;
}
