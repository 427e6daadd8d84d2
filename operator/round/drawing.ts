/**
 * The draw of cohorts, before there is a plan (secure-aggregation.md §6 "Who decides cohorts"): everybody commits to a nonce, then everybody
 * reveals it. Whoever does not answer is left out by name and the draw is repeated among the others, at most three times.
 * Holds: members and cohort size of a draw are fixed before anybody reveals; what was answered late or for another draw changes nothing.
 * Does not: check commitments and nonces (secagg/draw.ts), nor split (the plan's maker does, and every agent again).
 */
import { fail } from "./end.ts";
import { type Draw, phaseStart, type RoundRecord } from "./record.ts";
import type { Decision, PlanResult, World } from "./world.ts";

/** An agent answers at once; one that connects again needs a few seconds. Three draws fit into the limit of planning. */
export const DRAW_STAGE_MS = 15_000;
/** For agents that connect just now: an operator that was restarted plans before they are all back. */
export const GATHER_MS = 10_000;
const MOST_DRAWS = 3;

export function isDrawing(record: RoundRecord, world: World): boolean {
  return record.draw ? record.draw.stage !== "drawn" : world.plan?.kind === "draw";
}

export function followDraw(record: RoundRecord, world: World, limitMs: number): Decision {
  if (!record.draw) return open(record, world.plan as Extract<PlanResult, { kind: "draw" }>, world, limitMs);
  const { draw } = record;
  const missing = draw.members.filter((member) => !hasAnswered(draw, member));
  if (missing.length === 0) return nextStage(record, draw, world);
  if (world.nowMs >= draw.untilMs) return repeat(record, draw, world);
  return {
    record,
    actions: [{ do: "announceDraw", participants: missing.map(({ name }) => name) }],
    lookAgainAtMs: Math.min(draw.untilMs, limitMs),
  };
}

/** What a participant committed to, base64; its signature was found good. */
export function applyCommitment(
  record: RoundRecord,
  participant: string,
  answer: { number: number; commitment: string; signature: string },
): RoundRecord {
  const { number, ...committed } = answer;
  return answered(record, participant, { stage: "commit", number }, committed);
}

/** Base64; it is what was committed to. */
export function applyNonce(
  record: RoundRecord,
  participant: string,
  answer: { number: number; nonce: string },
): RoundRecord {
  return answered(record, participant, { stage: "reveal", number: answer.number }, { nonce: answer.nonce });
}

type DrawMember = Draw["members"][number];

function answered(
  record: RoundRecord,
  participant: string,
  at: { stage: Draw["stage"]; number: number },
  change: Partial<DrawMember>,
): RoundRecord {
  const { draw } = record;
  const member = draw?.members.find(({ name }) => name === participant);
  // A round that was given up while it drew keeps what it had.
  if (record.phase !== "Planning") return record;
  if (!draw || draw.stage !== at.stage || draw.number !== at.number || !member || hasAnswered(draw, member))
    return record;
  const members = draw.members.map((one) => (one === member ? { ...one, ...change } : one));
  return { ...record, draw: { ...draw, members } };
}

function hasAnswered(draw: Draw, member: DrawMember): boolean {
  return draw.stage === "commit" ? member.commitment !== undefined : member.nonce !== undefined;
}

function open(
  record: RoundRecord,
  { number, cohortSize, members, sample }: Extract<PlanResult, { kind: "draw" }>,
  world: World,
  limitMs: number,
): Decision {
  const away = members.filter((name) => !world.connected.has(name));
  const gatheredMs = phaseStart(record) + GATHER_MS;
  if (away.length > 0 && world.nowMs < gatheredMs)
    return { record, actions: [], lookAgainAtMs: Math.min(gatheredMs, limitMs) };
  const there = members.filter((name) => world.connected.has(name));
  const message = "its agent was not connected when cohorts were drawn; check that it runs and reaches the operator";
  const leftOut = away.map((name) => ({ name, reason: "NotConnected", message }));
  // Kept: who was drawn for the round is not drawn again for its plan.
  return begin({ ...record, number, ...(sample && { sample }) }, { number: 1, cohortSize, leftOut }, there, world);
}

/** Anew among those who answered: their nonces too, because the first ones may be known by now. */
function repeat(record: RoundRecord, draw: Draw, world: World): Decision {
  const late = draw.members.filter((member) => !hasAnswered(draw, member));
  const what = draw.stage === "commit" ? "commit to a number" : "reveal its number";
  const reason = draw.stage === "commit" ? "NoCommitment" : "NotRevealed";
  const message = `its agent did not ${what} when cohorts were drawn, within ${DRAW_STAGE_MS / 1000} s`;
  const leftOut = [...draw.leftOut, ...late.map(({ name }) => ({ name, reason, message }))];
  const there = draw.members.filter((member) => !late.includes(member)).map(({ name }) => name);
  return begin(record, { number: draw.number + 1, cohortSize: draw.cohortSize, leftOut }, there, world);
}

function begin(
  record: RoundRecord,
  draw: Pick<Draw, "number" | "cohortSize" | "leftOut">,
  names: string[],
  world: World,
): Decision {
  const needed = world.federation.kind === "known" ? world.federation.terms.minimum : 1;
  const isOne = names.length <= draw.cohortSize;
  if (names.length < needed || (draw.number > MOST_DRAWS && !isOne)) {
    const lost = draw.leftOut.map(({ name, message }) => ({ name, state: "Lost", message }));
    return fail(record, { code: "DrawFailed", remaining: names.length, needed, lost }, world.nowMs);
  }
  const members = names.map((name) => ({ name }));
  // Nobody can be put anywhere when there is one cohort.
  const stage = isOne ? "drawn" : "commit";
  const number = Math.min(draw.number, MOST_DRAWS);
  const next: RoundRecord = {
    ...record,
    draw: { ...draw, number, stage, untilMs: world.nowMs + DRAW_STAGE_MS, members },
  };
  if (isOne) return { record: next, actions: [{ do: "plan" }], lookAgainAtMs: world.nowMs };
  return {
    record: next,
    actions: [{ do: "announceDraw", participants: names }],
    lookAgainAtMs: world.nowMs + DRAW_STAGE_MS,
  };
}

function nextStage(record: RoundRecord, draw: Draw, world: World): Decision {
  const stage = draw.stage === "commit" ? "reveal" : "drawn";
  const next: RoundRecord = { ...record, draw: { ...draw, stage, untilMs: world.nowMs + DRAW_STAGE_MS } };
  const participants = draw.members.map(({ name }) => name);
  return stage === "drawn"
    ? { record: next, actions: [{ do: "plan" }], lookAgainAtMs: world.nowMs }
    : { record: next, actions: [{ do: "announceDraw", participants }], lookAgainAtMs: world.nowMs + DRAW_STAGE_MS };
}
