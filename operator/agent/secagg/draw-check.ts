/**
 * Whether a plan's cohorts come from a draw that nobody steered: secagg/draw.ts, and that the plan shows the very commitments that this agent
 * was shown before it gave its nonce away.
 * Holds: pure. Without the second, a member that colludes with the coordinator could commit anew once all honest nonces are known.
 */
import type { Plan } from "../../round/plan.ts";
import { drawComplaint } from "../../secagg/draw.ts";
import type { DrawRow } from "./draw-ledger.ts";

/** @returns a sentence; undefined: nothing is wrong with the draw, or none is needed */
export function drawFault(plan: Plan, participant: string, own: DrawRow | undefined): string | undefined {
  const keys = new Map(plan.roster.map((member) => [member.participant, member.identity]));
  const identityOf = (name: string) => Buffer.from(keys.get(name) ?? "", "base64");
  const drawOf = (number: number) =>
    own?.number === number ? { nonce: Buffer.from(own.nonce, "base64"), cohortSize: own.cohortSize } : undefined;
  const complaint = drawComplaint(plan, identityOf, { participant, drawOf });
  if (complaint || !plan.secure?.draw) return complaint;
  const shown = new Map(own?.shown?.map((entry) => [entry.participant, entry.commitment]));
  const isAsShown = ({ participant: name, commitment }: { participant: string; commitment: string }) =>
    shown.get(name) === commitment;
  const { nonces } = plan.secure.draw;
  return nonces.length === shown.size && nonces.every(isAsShown)
    ? undefined
    : "the plan's draw shows other commitments than those that this participant was shown before it gave its nonce";
}
