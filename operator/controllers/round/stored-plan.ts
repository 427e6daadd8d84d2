/**
 * A round's signed plan and what goes with it, as journalled before anybody is sent anything (spaces "plans" and "round-keys").
 * Holds: an attempt has one plan, whatever happens while it is made, and all of them stay until the end; the secret key of a trusted round is in the journal only, and removed at
 *   the end. A secure round has none: there is nothing that the operator could open.
 */
import { z } from "zod";
import { federationSpecSchema } from "../../api/federation.ts";
import type { Journal, Write } from "../../journal/journal.ts";
import type { Plan } from "../../round/plan.ts";
import type { RoundRecord } from "../../round/record.ts";
import type { Signed } from "../../transport/generated/rondo.v1.ts";
import { parsePlan } from "../../transport/plan.ts";
import { activeSchema } from "../versions.ts";

const storedSchema = z.strictObject({
  schema: z.literal(1),
  /** Base64 of the canonical JSON, exactly as signed. */
  body: z.string(),
  signature: z.string(),
  parent: activeSchema,
  /** Where the candidate goes; a round is fixed when it is planned. */
  publish: federationSpecSchema.shape.publish,
});

export interface RoundPlan {
  plan: Plan;
  planHash: Uint8Array;
  signed: Signed;
  parent: z.infer<typeof activeSchema>;
  publish: z.infer<typeof storedSchema>["publish"];
}

const PLANS = "plans";
const KEYS = "round-keys";
/** A round's number by its uid, until the round ends: given before its record knows it. */
export const NUMBERS = "round-numbers";

/** @param attempt  from 1 */
export function planWrites(
  { uid, attempt }: Pick<RoundRecord, "uid" | "attempt">,
  made: Pick<RoundPlan, "signed" | "parent" | "publish"> & { privateKey?: Uint8Array | undefined },
): Write[] {
  const stored: z.infer<typeof storedSchema> = {
    schema: 1,
    body: Buffer.from(made.signed.body).toString("base64"),
    signature: Buffer.from(made.signed.signature).toString("base64"),
    parent: made.parent,
    publish: made.publish,
  };
  return [
    { insert: { space: PLANS, key: keyOf(uid, attempt), value: Buffer.from(JSON.stringify(stored)) } },
    ...(made.privateKey ? [{ insert: { space: KEYS, key: uid, value: made.privateKey } } as const] : []),
  ];
}

export async function readPlan(
  journal: Journal,
  { uid, attempt }: Pick<RoundRecord, "uid" | "attempt">,
): Promise<RoundPlan | undefined> {
  const bytes = await journal.get(PLANS, keyOf(uid, attempt));
  if (!bytes) return undefined;
  const stored = storedSchema.parse(JSON.parse(Buffer.from(bytes).toString("utf8")));
  const body = Buffer.from(stored.body, "base64");
  const { plan, planHash } = parsePlan(body);
  return {
    plan,
    planHash,
    signed: { kind: "plan", body, signature: Buffer.from(stored.signature, "base64") },
    parent: stored.parent,
    publish: stored.publish,
  };
}

export async function readRoundKey(journal: Journal, uid: string): Promise<Uint8Array | undefined> {
  return journal.get(KEYS, uid);
}

/** What a round that has ended no longer needs; the journal overwrites what it removes (secure_delete). */
export function planRemovals({ uid, attempt: last }: Pick<RoundRecord, "uid" | "attempt">): Write[] {
  const plans = Array.from({ length: last }, (_, i) => keyOf(uid, i + 1));
  return [
    ...plans.map((key) => ({ remove: { space: PLANS, key } })),
    { remove: { space: KEYS, key: uid } },
    { remove: { space: NUMBERS, key: uid } },
  ];
}

function keyOf(uid: string, attempt: number): string {
  return attempt === 1 ? uid : `${uid}/${attempt}`;
}
