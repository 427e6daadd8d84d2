/**
 * Does what a decision asks for. Short things are done here; long ones are started beside the reconcile and wake it when they end.
 * Holds: each action may be asked for again and again and is then done once, or once more with the same result.
 */
import type { Federation } from "../../api/federation.ts";
import type { FederationRound } from "../../api/federation-round.ts";
import { type EffectiveSettings, effectiveSettings } from "../../api/merge.ts";
import { learningRateOf } from "../../api/training.ts";
import { cohortOf } from "../../round/cohorts.ts";
import type { Contribution, RoundRecord } from "../../round/record.ts";
import type { Action } from "../../round/world.ts";
import type { Context } from "../context.ts";
import { there } from "../objects.ts";
import { isDiskFull } from "../storage.ts";
import { activate } from "./actions/activate.ts";
import { makeCandidate } from "./actions/candidate.ts";
import { cleanUp } from "./actions/clean-up.ts";
import { announceDraw } from "./actions/draw.ts";
import { dropAttempt } from "./actions/drop-attempt.ts";
import { sendCancellation, sendPlan } from "./actions/messages.ts";
import { makePlan } from "./actions/plan.ts";
import { publishCandidate } from "./actions/publish.ts";
import { announce, unmask } from "./actions/secagg.ts";
import type { Workplace } from "./workplace.ts";

export async function act(
  context: Context,
  workplace: Workplace,
  record: RoundRecord,
  actions: Action[],
): Promise<void> {
  for (const action of actions) await perform(context, workplace, record, action);
}

async function perform(context: Context, workplace: Workplace, record: RoundRecord, action: Action): Promise<void> {
  const start = <T>(name: string, work: (signal: AbortSignal) => Promise<T>) =>
    workplace.effects.start(record.uid, name, (signal) =>
      work(signal).catch((error) => tell(context, record, name, error)),
    );
  // What meets a full disk is asked for again, and would meet it again at once: the volume's room wakes the round.
  const whenThereIsRoom = async (work: () => Promise<void>) => (context.storage.problem ? undefined : work());
  switch (action.do) {
    case "plan":
      return start("plan", (signal) => makePlan(context, record, () => settingsOf(context, record), signal));
    case "dropAttempt":
      return dropAttempt(context, workplace, record, action.attempt);
    case "sendPlan":
      return sendPlan(context, workplace, record, action.participants);
    case "cancel":
      return sendCancellation(context, record, action);
    case "announceDraw":
      return announceDraw(context, record, action.participants);
    case "announce":
      return announce(context, workplace, record, action.participants);
    case "sum":
      return whenThereIsRoom(() => addUp(workplace, record, action.contributions));
    case "unmask":
      return whenThereIsRoom(() => unmask(workplace, record, action.cohort));
    case "makeCandidate":
      return whenThereIsRoom(async () => start("candidate", () => makeCandidate(context, workplace, record)));
    case "publish":
      return start("publish", (signal) => publishCandidate(context, workplace, record, signal));
    case "abortPublish":
      return workplace.effects.abort(record.uid, "publish");
    case "activate":
      return start("activate", () => activate(context, workplace, record));
    case "cleanUp":
      return cleanUp(context, workplace, record);
  }
}

async function addUp(workplace: Workplace, record: RoundRecord, contributions: Contribution[]): Promise<void> {
  if (!record.secure) {
    const sum = await workplace.sum(record);
    for (const contribution of contributions) sum.add(contribution);
    return;
  }
  const sum = await workplace.secureSum(record);
  for (const { participant, file } of contributions)
    sum.add({ cohort: cohortOf(record, participant)!.number, participant, file });
}

/** What is tried again shows in no status meanwhile, but for a full volume. */
function tell(context: Context, record: RoundRecord, step: string, error: unknown): never {
  if (isDiskFull(error)) context.storage.noteFull();
  context.log.warn({ round: record.name, step, err: error }, "a step of the round failed");
  throw error;
}

function settingsOf(context: Context, record: RoundRecord) {
  const federation = there(context.objects.federation(record.federation));
  const round = there(context.objects.round(record.name));
  if (!federation || !round) throw new Error("the Federation or the round was deleted while the plan was made");
  const settings = effectiveSettings(federation.spec, round.spec);
  return {
    ...settings,
    training: { ...settings.training, learningRate: scheduledRate(context, federation, round, settings) },
  };
}

function scheduledRate(context: Context, federation: Federation, round: FederationRound, settings: EffectiveSettings) {
  const { training, rounds } = settings;
  const schedule = rounds && { count: rounds.count, before: context.tally.createdBefore(federation, round) };
  return learningRateOf(training, schedule);
}
