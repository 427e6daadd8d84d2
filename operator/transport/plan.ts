/**
 * A plan as it travels: canonical JSON in an envelope of the plan key (protocol.md "A plan").
 * Holds: planHash is the SHA-256 of the bytes as received.
 * Does not: decide whether a site takes part (agent/policy.ts).
 */
import { createHash, type KeyObject } from "node:crypto";
import { type Plan, planSchema } from "../round/plan.ts";
import { canonicalBytes, parseCanonical } from "./canonical.ts";
import { openSigned, seal } from "./envelope.ts";
import { TransportFault } from "./faults.ts";
import type { Signed } from "./generated/rondo.v1.ts";
import { MOST_MESSAGE_BYTES } from "./limits.ts";

export interface ReceivedPlan {
  plan: Plan;
  /** 32 bytes */
  planHash: Uint8Array;
}

/** @param plan  valid by planSchema. @throws TransportFault "MessageTooLarge" when it fits no message */
export function signPlan(plan: Plan, planKey: KeyObject): { signed: Signed; planHash: Uint8Array } {
  const body = canonicalBytes(plan);
  if (body.length > MOST_MESSAGE_BYTES - 1024) {
    throw new TransportFault(
      "MessageTooLarge",
      `The plan has ${body.length} bytes and a message holds ${MOST_MESSAGE_BYTES}: adapt fewer target modules`,
    );
  }
  return { signed: seal("plan", body, planKey), planHash: planHashOf(body) };
}

/** @throws TransportFault "SignatureInvalid" | "PlanInvalid" | "MessageInvalid" */
export function openPlan(signed: Signed | undefined, planPublicKey: KeyObject): ReceivedPlan {
  return parsePlan(openSigned(signed, { kind: "plan", publicKey: planPublicKey, mostBytes: MOST_MESSAGE_BYTES }));
}

/** @param bytes  verified already. @throws TransportFault "PlanInvalid" for bytes that are not canonical, and for unknown, missing or wrong fields */
export function parsePlan(bytes: Uint8Array): ReceivedPlan {
  const parsed = planSchema.safeParse(parseCanonical(bytes));
  if (parsed.success) return { plan: parsed.data, planHash: planHashOf(bytes) };
  const issue = parsed.error.issues[0];
  const where = issue?.path.join(".") || "plan";
  throw new TransportFault("PlanInvalid", `The plan's ${where} is refused: ${issue?.message ?? "invalid"}`);
}

export function planHashOf(bytes: Uint8Array): Uint8Array {
  return createHash("sha256").update(bytes).digest();
}
