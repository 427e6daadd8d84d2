/**
 * A participant's state as two texts: one that anybody may read and one that must be erased (secure-aggregation.md §6).
 * Holds: secrets are in the second text only, so that the ledger keeps them under a key of their own and erasing them is removing that key.
 *        A state that comes back is the state that went in, byte for byte.
 */
import { z } from "zod";
import { SECAGG_CODES } from "../faults.ts";
import type { ParticipantState } from "./state.ts";

/** JSON texts. `secrets` is absent for a state that has none: then whatever is stored of them is to be removed. */
export interface StoredState {
  open: string;
  secrets?: string | undefined;
}

const bytes = z.codec(
  z.base64(),
  z.custom<Uint8Array>((value) => value instanceof Uint8Array),
  {
    decode: (text) => Uint8Array.from(Buffer.from(text, "base64")),
    encode: (value) => Buffer.from(value).toString("base64"),
  },
);
const index = z.int().min(1).max(128);
const advertisement = z.strictObject({ index, cPk: bytes, sPk: bytes, cmB: bytes, signature: bytes });
const keys = { cSk: bytes, sSk: bytes, b: bytes };
const heldShares = z.strictObject({
  shares: z.array(z.strictObject({ index, selfShare: bytes, pairShare: bytes.optional() })),
});
const revealed = z.discriminatedUnion("$case", [
  z.strictObject({ $case: z.literal("selfShare"), value: bytes }),
  z.strictObject({ $case: z.literal("pairShare"), value: bytes }),
]);
const abortCodes = [...SECAGG_CODES, "Cancelled", "RoundEnded", "Superseded", "LedgerTooOld"] as const;

const stateSchema = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("Advertised"),
    c0: bytes,
    message: advertisement,
    secrets: z.strictObject(keys),
  }),
  z.strictObject({
    kind: z.literal("Shared"),
    advertised: z.array(advertisement),
    t1: bytes,
    message: z.strictObject({ ack: bytes, shares: z.array(z.strictObject({ index, ciphertext: bytes })) }),
    secrets: z.strictObject({ ...keys, ownSelfShare: bytes }),
  }),
  z.strictObject({
    kind: z.literal("Masked"),
    t1: bytes,
    sharesRequest: bytes,
    u2: z.array(index),
    input: z.strictObject({ root: bytes, byteLength: z.int().min(1), signature: bytes }),
    secrets: heldShares,
  }),
  z.strictObject({
    kind: z.literal("Signed"),
    t1: bytes,
    sharesRequest: bytes,
    u3: z.array(index),
    t2: bytes,
    message: z.strictObject({ signature: bytes }),
    secrets: heldShares,
  }),
  z.strictObject({
    kind: z.literal("Released"),
    t1: bytes,
    sharesRequest: bytes,
    u3: z.array(index),
    t2: bytes,
    message: z.strictObject({ shares: z.array(z.strictObject({ index, share: revealed.optional() })) }),
  }),
  z.strictObject({
    kind: z.literal("Aborted"),
    from: z.enum(["Advertised", "Shared", "Masked", "Signed"]),
    code: z.enum(abortCodes),
    message: z.string(),
    accused: z.array(z.string()),
  }),
]);

export function storedState(state: ParticipantState): StoredState {
  const encoded = z.encode(stateSchema, state);
  if (!("secrets" in encoded)) return { open: JSON.stringify(encoded) };
  const { secrets, ...open } = encoded;
  return { open: JSON.stringify(open), secrets: JSON.stringify(secrets) };
}

/** @throws Error when the texts are no state: a state whose secrets are gone, secrets of another state, a damaged ledger */
export function restoreState({ open, secrets }: StoredState): ParticipantState {
  const parsed: unknown = JSON.parse(open);
  const whole = secrets === undefined ? parsed : { ...(parsed as object), secrets: JSON.parse(secrets) };
  return z.decode(stateSchema, whole as z.input<typeof stateSchema>);
}
