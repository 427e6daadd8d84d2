/**
 * One Federation: this controller watches federations, rounds, participants and versions to decide whether version 0 must be made,
 * whether its next round may begin and which of its ended rounds are too many.
 * Holds: the federation's own rounds never overlap, with each other or with rounds that people made; a reconcile does not grow with the
 *   number of rounds that have ended.
 */
import { findCondition, READY } from "../../api/conditions.ts";
import type { Federation, FederationStatus } from "../../api/federation.ts";
import { isTerminal as isTerminalPhase } from "../../api/federation-round.ts";
import { again, DONE, type Result } from "../../kube/controller.ts";
import { FEDERATIONS } from "../../kube/resources.ts";
import { forgetClips } from "../clips.ts";
import type { RoundDesk } from "../round/desk.ts";
import { candidatesOf } from "../selector.ts";
import { initialState, noteInitialState } from "./initial-state.ts";
import { type InitialiseModules, initialise } from "./initialise.ts";
import { nextRound } from "./next-round.ts";
import { createRound, pruneRounds, settleCreation } from "./own-rounds.ts";
import { type FederationWorld, isAvailable, statusOf } from "./status.ts";

/** While a failure stands: whether its cause was removed (the Job deleted, the registry back). */
const LOOK_AGAIN_MS = 30_000;
/** Between one lot of deletions and the next. */
const PRUNE_AGAIN_MS = 200;
/** A full disk: a commit would not return before there is room. */
const ROOM_AGAIN_MS = 5_000;
/** Ways to be ready, or not, that somebody may have waited for. */
const TOLD: Record<string, "Normal" | "Warning"> = {
  RoundsDone: "Normal",
  StopConditionMet: "Normal",
  Suspended: "Normal",
  RoundsFailing: "Warning",
};

export class FederationReconciler {
  readonly #modules: InitialiseModules;
  readonly #desk: RoundDesk;
  readonly #wakeRounds: (federation: string) => void;
  readonly #written = new Map<string, string>();

  constructor(modules: InitialiseModules, desk: RoundDesk, wakeRounds: (federation: string) => void) {
    this.#modules = modules;
    this.#desk = desk;
    this.#wakeRounds = wakeRounds;
  }

  async reconcile(name: string): Promise<Result> {
    const { context } = this.#modules;
    const read = context.objects.federation(name);
    if (read.kind === "invalid")
      context.log.error({ federation: name, problem: read.problem }, "federation cannot be read");
    if (read.kind === "absent") await this.#bury(name);
    if (read.kind !== "there" || read.object.metadata.deletionTimestamp) return DONE;
    const federation = read.object;
    const initialAgainMs = await this.#initial(federation);
    const canWrite = !context.storage.journalIsFull;
    if (canWrite) await settleCreation(context, federation);
    let world = this.#observe(federation);
    if (canWrite && world.next.kind === "due" && world.initial.kind === "ready" && isAvailable(world)) {
      await createRound(context, federation);
      world = this.#observe(federation);
    }
    await this.#report(federation, world);
    const hasMore = await pruneRounds(context, this.#desk, federation);
    const pauseMs = world.next.kind === "pausing" ? world.next.untilMs - world.nowMs : undefined;
    const waits = [initialAgainMs, pauseMs, hasMore ? PRUNE_AGAIN_MS : undefined, canWrite ? undefined : ROOM_AGAIN_MS];
    const nextMs = Math.min(...waits.filter((ms) => ms !== undefined));
    return nextMs === Number.POSITIVE_INFINITY ? DONE : again(nextMs);
  }

  async #initial(federation: Federation): Promise<number | undefined> {
    const { context } = this.#modules;
    const before = initialState(context, federation);
    if (before.kind === "ready" || context.versions.active(federation.metadata.name)) {
      await this.#modules.jobs.forgetOnce(federation);
      return undefined;
    }
    const { state, againMs } = await initialise(this.#modules, federation);
    noteInitialState(context, federation, state);
    if (state.kind !== before.kind) this.#wakeRounds(federation.metadata.name);
    if (state.kind === "failed" && before.kind !== "failed")
      context.events.record(federation, {
        type: "Warning",
        reason: "InitialiseFailed",
        note: state.problem,
      });
    return state.kind === "failed" ? LOOK_AGAIN_MS : againMs;
  }

  /** Its AdapterVersions stay, and speak for themselves from now on. */
  async #bury(name: string): Promise<void> {
    await this.#modules.jobs.forgetNamed(name);
    if (!this.#desk.open().some((record) => record.federation === name)) await this.#forget(name);
  }

  async #forget(name: string): Promise<void> {
    const { versions, leftOut, tally, outcomes, journal } = this.#modules.context;
    await versions.forget(name);
    await leftOut.forget(name);
    await tally.forget(name);
    await outcomes.forget(name);
    await forgetClips(journal, name);
  }

  #observe(federation: Federation): FederationWorld {
    const { context } = this.#modules;
    const { name, generation } = federation.metadata;
    const { selector, minimum } = federation.spec.participants;
    const active = context.versions.active(name);
    const current = this.#current(name);
    const tally = context.tally.of(federation);
    const nowMs = context.now();
    const { created } = context.tally.creations(federation);
    const rounds = { nowMs, generation, tally, created, ...(current !== undefined && { current }) };
    return {
      nowMs,
      generation,
      minimum,
      candidates: candidatesOf(selector, context.objects.participants(), (participant, identity) =>
        context.leftOut.has(name, participant, identity),
      ),
      connected: context.attendance.connected(),
      initial: initialState(context, federation),
      ...(active && { active }),
      tally,
      ...(current !== undefined && { current }),
      next: nextRound(federation.spec, rounds),
    };
  }

  /** The record is ahead of the status, and outlives an object that was deleted by force. */
  #current(federation: string): string | undefined {
    const open = this.#modules.context.objects.openRoundsOf(federation);
    const rounds = open.flatMap(({ metadata: { name, uid }, status }) => {
      const phase = this.#desk.phase(uid) ?? status.phase ?? "Pending";
      return isTerminalPhase(phase) ? [] : [{ name, phase }];
    });
    const begun = rounds.find(({ phase }) => phase !== "Pending");
    return (begun ?? rounds[0] ?? this.#desk.open().find((record) => record.federation === federation))?.name;
  }

  async #report(federation: Federation, world: FederationWorld): Promise<void> {
    const { context } = this.#modules;
    const { name, namespace, uid } = federation.metadata;
    const status = statusOf(world, federation.status.conditions ?? []);
    const text = JSON.stringify(status);
    if (text === JSON.stringify(federation.status) || text === this.#written.get(uid)) return;
    const written = await context.client.applyStatus(FEDERATIONS, { metadata: { name, namespace }, status });
    context.caches.federations.put(written);
    this.#written.set(uid, text);
    this.#tell(federation, findCondition(federation.status.conditions, READY)?.reason, status);
  }

  /** Transitions only. */
  #tell(federation: Federation, before: string | undefined, status: FederationStatus): void {
    const ready = findCondition(status.conditions, READY);
    const type = ready && TOLD[ready.reason];
    if (type && ready.reason !== before)
      this.#modules.context.events.record(federation, { type, reason: ready.reason, note: ready.message });
  }
}
