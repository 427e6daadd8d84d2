/**
 * Whether a plan's cohorts come from a draw that nobody steered: secagg/draw.ts, by this agent's pinned keys and its own part in the draw.
 * Holds: pure.
 */
import type { Plan } from "../../round/plan.ts";
import { drawComplaint, type OwnDraw } from "../../secagg/draw.ts";
import type { DrawRow } from "./draw-ledger.ts";

/** @returns a sentence; undefined: nothing is wrong with the draw, or none is needed */
export function drawFault(plan: Plan, participant: string, own: DrawRow | undefined): string | undefined {
  const keys = new Map(plan.roster.map((member) => [member.participant, member.identity]));
  const identityOf = (name: string) => raw(keys.get(name) ?? "");
  const drawOf = (number: number) => (own?.number === number ? ownDraw(own) : undefined);
  return drawComplaint(plan, identityOf, { participant, drawOf });
}

function ownDraw({ nonce, cohortSize, shown = [] }: DrawRow): OwnDraw {
  const commitments = shown.map(({ participant, commitment }) => ({ participant, commitment: raw(commitment) }));
  return { nonce: raw(nonce), cohortSize, shown: commitments };
}

const raw = (base64: string): Uint8Array => new Uint8Array(Buffer.from(base64, "base64"));
