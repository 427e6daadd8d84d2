/** Gathers what decide() is told: objects from the caches, who is connected, and how far this process's own work has come. */
import { type FederationRound, isTerminal as isTerminalPhase } from "../../api/federation-round.ts";
import { effectiveSettings } from "../../api/merge.ts";
import { isKubeFault, type KubeFault } from "../../kube/faults.ts";
import { PublishFault } from "../../publish/fault.ts";
import type { RoundRecord } from "../../round/record.ts";
import type { FederationView, PlanResult, PublishResult, World } from "../../round/world.ts";
import type { Context } from "../context.ts";
import type { Result } from "../effects.ts";
import { initialState } from "../federation/initial-state.ts";
import { there } from "../objects.ts";
import { candidatesOf } from "../selector.ts";
import { isDiskFull } from "../storage.ts";
import type { ActiveVersion } from "../versions.ts";
import type { CandidateFile } from "./actions/candidate.ts";
import { termsOf } from "./actions/plan.ts";
import { SettingsFault } from "./actions/settings-fault.ts";
import { SumAgain } from "./sum-threads.ts";
import type { Workplace } from "./workplace.ts";

/** An API server that answers so may answer better later. */
const PASSING = ["Unreachable", "Timeout", "ServerError", "TooManyRequests"] as const satisfies KubeFault["code"][];

export function observe(context: Context, workplace: Workplace, record: RoundRecord): World {
  const { effects } = workplace;
  const round = there(context.objects.round(record.name));
  const earlier = earlierRound(context, workplace, record);
  const plan = planResult(effects.result(record.uid, "plan"));
  const candidate = candidateResult(effects.result(record.uid, "candidate"));
  const { problem: noRoom } = context.storage;
  const publish = publishResult(effects.result(record.uid, "publish"), effects.isRunning(record.uid, "publish"));
  const activation = effects.result(record.uid, "activate");
  const refusal = refusalOf(activation);
  return {
    nowMs: context.now(),
    cancelled: round?.spec.cancel === true,
    deleting: round?.metadata.uid !== record.uid || round.metadata.deletionTimestamp !== undefined,
    federation: federationView(context, record),
    ...(noRoom !== undefined && { storage: { problem: noRoom } }),
    ...(earlier !== undefined && { earlier }),
    connected: context.attendance.connected(),
    revoked: revoked(context, record),
    ...(plan && { plan }),
    sum: workplace.sumView(record),
    ...(candidate && { candidate }),
    ...(publish && { publish }),
    publishing: effects.isRunning(record.uid, "publish"),
    activated: activation?.kind === "done",
    ...(refusal && { activationProblem: refusal }),
  };
}

function federationView(context: Context, record: RoundRecord): FederationView {
  const federation = context.objects.federation(record.federation);
  const round = there(context.objects.round(record.name));
  if (federation.kind === "absent") return { kind: "unknown" };
  if (federation.kind === "invalid") return federation;
  const settings = effectiveSettings(federation.object.spec, round?.spec ?? {});
  return {
    kind: "known",
    suspended: federation.object.spec.suspend,
    terms: termsOf(settings),
    candidates: candidatesOf(settings.participants.selector, context.objects.participants(), (name, identity) =>
      context.leftOut.has(record.federation, name, identity),
    ),
    adapter: initialState(context, federation.object),
  };
}

/** One at a time: who has begun goes first, then who was created first. */
function earlierRound(context: Context, workplace: Workplace, record: RoundRecord): string | undefined {
  if (record.phase !== "Pending") return undefined;
  const rank = (name: string, uid: string, created: string) => {
    const phase = workplace.desk.phase(uid) ?? "Pending";
    return `${phase === "Pending" ? 1 : 0} ${created} ${name}`;
  };
  const all = context.objects.openRoundsOf(record.federation);
  const ended = new Set(all.filter((round) => hasEnded(workplace, round)).map(({ metadata }) => metadata.uid));
  const rounds = all.map(({ metadata }) => metadata);
  const self = rounds.find(({ uid }) => uid === record.uid);
  if (!self) return undefined;
  const own = rank(self.name, self.uid, self.creationTimestamp);
  return rounds
    .filter(({ uid }) => uid !== record.uid && !ended.has(uid))
    .filter(({ name, uid, creationTimestamp }) => rank(name, uid, creationTimestamp) < own)
    .map(({ name }) => name)[0];
}

/**
 * A record is ahead of the object's status; without one (the journal was lost) the status is all there is, and what is being deleted
 * is never begun, however long another's finalizer holds it.
 */
function hasEnded(workplace: Workplace, round: FederationRound): boolean {
  const phase = workplace.desk.phase(round.metadata.uid);
  if (phase) return isTerminalPhase(phase);
  return isTerminalPhase(round.status.phase) || round.metadata.deletionTimestamp !== undefined;
}

function revoked(context: Context, record: RoundRecord): Set<string> {
  const gone = record.participants.filter(({ name }) => {
    const participant = context.objects.participant(name);
    return !participant || participant.spec.suspended || participant.metadata.deletionTimestamp !== undefined;
  });
  return new Set(gone.map(({ name }) => name));
}

function planResult(result: Result<PlanResult> | undefined): PlanResult | undefined {
  if (!result) return undefined;
  if (result.kind === "done") return result.value;
  const { error, atMs } = result;
  const failed = { kind: "failed", problem: problemOf(error), atMs } as const;
  if (error instanceof SettingsFault) return { ...failed, retry: false, code: "InvalidSettings" };
  const passes = isKubeFault(error, ...PASSING) || isDiskFull(error);
  return { ...failed, retry: passes || (error instanceof PublishFault && error.transient) };
}

function candidateResult(result: Result<CandidateFile> | undefined): World["candidate"] {
  if (!result) return undefined;
  if (result.kind === "done") return { kind: "made", ...result.value };
  const { error, atMs, tries } = result;
  const passes = isDiskFull(error) || error instanceof SumAgain || (error instanceof PublishFault && error.transient);
  return { kind: "failed", problem: problemOf(error), ...(passes && { retry: { atMs, tries } }) };
}

/** An API server that does not answer refuses nothing. */
function refusalOf(result: Result<unknown> | undefined): string | undefined {
  if (result?.kind !== "failed" || isKubeFault(result.error, ...PASSING)) return undefined;
  return problemOf(result.error);
}

/** The result of an earlier try says nothing while the next one runs. */
function publishResult(result: Result<ActiveVersion> | undefined, running: boolean): PublishResult | undefined {
  if (!result || running) return undefined;
  if (result.kind === "done") {
    const { version, digest, reference } = result.value;
    return { kind: "published", version, digest, reference };
  }
  const { error, atMs, tries } = result;
  const unreachable = error instanceof PublishFault && error.transient;
  return { kind: "failed", problem: problemOf(error), unreachable, atMs, tries };
}

export function problemOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
