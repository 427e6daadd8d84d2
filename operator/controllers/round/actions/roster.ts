/**
 * Who is on a first plan: everybody who can be invited, those whom the sample draws, or the members of a draw of cohorts.
 * Holds: ascending by the bytes of their names, each with the identity that its Participant has now.
 */
import { randomBytes } from "node:crypto";
import type { EffectiveSettings } from "../../../api/merge.ts";
import { type Sample, sampleProblem } from "../../../api/sample.ts";
import { compareNames } from "../../../publish/safetensors-header.ts";
import type { Plan, PlanSample } from "../../../round/plan.ts";
import type { Draw, RoundRecord } from "../../../round/record.ts";
import { invitedBy, planSample } from "../../../round/sampling.ts";
import { canBeInvited } from "../../../round/world.ts";
import { isCommitment } from "../../../secagg/draw.ts";
import { type Context, federationId } from "../../context.ts";
import { candidatesOf, identityOf } from "../../selector.ts";
import { SettingsFault } from "./settings-fault.ts";

export type Roster = Plan["roster"];

/** A plan has at most so many. */
const MOST_INVITED = 256;

/**
 * @param minimum  that the plan will have
 * @throws SettingsFault where these settings allow no plan
 */
export function chosenRoster(
  context: Context,
  record: RoundRecord,
  settings: EffectiveSettings,
  minimum: number,
): { roster: Roster; sample?: PlanSample } {
  if (record.draw) {
    const { draw, sample } = record;
    return { roster: drawnRoster(context, { ...record, draw }), ...(sample && { sample }) };
  }
  const all = invitable(context, record, settings);
  const wished = settings.participants.sample;
  const sample = wished && sampled(context, wished, { all, minimum, privacy: settings.aggregation.privacy });
  const invited = sample ? new Set(invitedBy(sample)) : undefined;
  const roster = invited ? all.filter(({ participant }) => invited.has(participant)) : all;
  if (roster.length > MOST_INVITED)
    throw new SettingsFault(
      `${roster.length} Participants would be invited; a round has at most ${MOST_INVITED}: narrow the selector, or set participants.sample`,
    );
  return { roster, ...(sample && { sample }) };
}

function sampled(
  context: Context,
  wished: Sample,
  { all, minimum, privacy }: { all: Roster; minimum: number; privacy: "secure" | "trusted" },
): PlanSample {
  const invitable = all.map(({ participant }) => participant);
  const seed = randomBytes(32).toString("base64");
  const sample = planSample(wished, seed, { invitable, connected: context.attendance.connected() });
  const problem = sampleProblem({ minimum, sample: wished }, privacy, sample.count);
  if (problem) throw new SettingsFault(problem);
  if (sample.count > MOST_INVITED)
    throw new SettingsFault(
      `participants.sample wants ${sample.count} of ${all.length} Participants; a round has at most ${MOST_INVITED}: lower it`,
    );
  return sample;
}

function invitable(context: Context, record: RoundRecord, settings: EffectiveSettings): Roster {
  const isLeftOut = (name: string, identity?: string) => context.leftOut.has(record.federation, name, identity);
  return candidatesOf(settings.participants.selector, context.objects.participants(), isLeftOut)
    .filter(canBeInvited)
    .map(({ name }) => ({ participant: name, identity: identityOf(context.objects.participant(name)!)! }))
    .sort((a, b) => compareNames(a.participant, b.participant));
}

/**
 * Whoever took part in the draw is on the plan, with the key that it committed with: else the plan's draw would not be the one that everybody saw.
 * @throws Error with a sentence
 */
export function drawnRoster(
  context: { config: Context["config"]; objects: Pick<Context["objects"], "participant"> },
  { federation, number: round, draw }: Pick<RoundRecord, "federation" | "number"> & { draw: Draw },
): Roster {
  const which = { federation: federationId(context, federation), round: round!, number: draw.number };
  return draw.members.map(({ name, commitment, signature }) => {
    const participant = context.objects.participant(name);
    const identity = participant && identityOf(participant);
    // Nobody commits where everybody fits into one cohort.
    const isSame =
      commitment === undefined ||
      (identity && isCommitment(which, bytes(identity), bytes(commitment), bytes(signature!)));
    if (!identity || !isSame)
      throw new Error(`Participant ${name} was deleted, or enrolled anew, after cohorts were drawn`);
    return { participant: name, identity };
  });
}

const bytes = (base64: string) => new Uint8Array(Buffer.from(base64, "base64"));
