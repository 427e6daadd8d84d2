/** Asks the members of a draw to commit, and then to reveal (secure-aggregation.md §6): once per session, draw and stage. */
import type { Draw, RoundRecord } from "../../../round/record.ts";
import type { DrawStep } from "../../../transport/generated/rondo.v1.ts";
import { type Context, federationId } from "../../context.ts";

export function announceDraw(context: Context, record: RoundRecord, participants: readonly string[]): void {
  const draw = record.draw;
  if (!draw || draw.stage === "drawn") return;
  const step = draw.stage === "commit" ? openingOf(draw) : commitmentsOf(draw);
  for (const participant of participants) {
    const session = context.attendance.session(participant);
    if (!session || !context.attendance.firstTime(session, `draw ${record.uid} ${draw.number} ${draw.stage}`)) continue;
    session.sendDraw({
      work: {
        federation: federationId(context, record.federation),
        round: record.number!,
        attempt: draw.number,
        purpose: "draw",
        participant,
        step: "draw",
      },
      step,
    });
  }
}

function openingOf({ members, cohortSize }: Draw): DrawStep["step"] {
  return { $case: "opening", value: { members: members.map(({ name }) => name), cohortSize } };
}

function commitmentsOf({ members }: Draw): DrawStep["step"] {
  const commitments = members.map(({ name, commitment, signature }) => ({
    participant: name,
    commitment: Buffer.from(commitment!, "base64"),
    signature: Buffer.from(signature!, "base64"),
  }));
  return { $case: "commitments", value: { commitments } };
}
