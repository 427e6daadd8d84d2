/**
 * One Federation: this controller watches federations, rounds, participants and versions to decide whether version 0 must be made
 * and whether the next round of spec.rounds.count may begin.
 * Holds: the federation's own rounds never overlap, with each other or with rounds that people made; spec.rounds.count counts the
 *   rounds it created, whatever became of them: a site that always fails must not keep a federation busy for ever.
 */
import type { Federation } from "../../api/federation.ts";
import type { FederationRound } from "../../api/federation-round.ts";
import { isTerminal as isTerminalPhase } from "../../api/federation-round.ts";
import { again, DONE, type Result } from "../../kube/controller.ts";
import { isKubeFault } from "../../kube/faults.ts";
import { controllerReference } from "../../kube/objects.ts";
import { FEDERATION_ROUNDS, FEDERATIONS } from "../../kube/resources.ts";
import { isTerminal } from "../../round/record.ts";
import { forgetClips } from "../clips.ts";
import type { RoundDesk } from "../round/desk.ts";
import { candidatesOf } from "../selector.ts";
import { initialState, noteInitialState } from "./initial-state.ts";
import { type InitialiseModules, initialise } from "./initialise.ts";
import { type FederationWorld, isAvailable, statusOf } from "./status.ts";

/** While a failure stands: whether its cause was removed (the Job deleted, the registry back). */
const LOOK_AGAIN_MS = 30_000;
const CREATED = "created-rounds";

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
    const againMs = await this.#initial(federation);
    const created = await this.#created(federation);
    const world = this.#observe(federation, created);
    const started = this.#wantsRound(federation, world, created)
      ? await this.#createRound(federation, created)
      : undefined;
    await this.#report(federation, started ? { ...world, rounds: { ...world.rounds, current: started } } : world);
    return againMs === undefined ? DONE : again(againMs);
  }

  async #initial(federation: Federation): Promise<number | undefined> {
    const { context } = this.#modules;
    const before = initialState(context, federation);
    if (before.kind === "ready" || context.versions.active(federation.metadata.name)) return undefined;
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

  #observe(federation: Federation, created: number): FederationWorld {
    const { context } = this.#modules;
    const { name, generation } = federation.metadata;
    const { selector, minimum } = federation.spec.participants;
    const rounds = context.objects.roundsOf(name);
    const phases = rounds.map((round) => this.#phaseOf(round));
    const current = rounds.find((_, i) => !isTerminalPhase(phases[i]));
    const active = context.versions.active(name);
    const done = federation.spec.rounds !== undefined && created >= federation.spec.rounds.count && !current;
    return {
      nowMs: context.now(),
      generation,
      minimum,
      candidates: candidatesOf(selector, context.objects.participants(), (participant, identity) =>
        context.leftOut.has(name, participant, identity),
      ),
      connected: context.attendance.connected(),
      initial: initialState(context, federation),
      ...(active && { active }),
      rounds: {
        succeeded: phases.filter((phase) => phase === "Succeeded").length,
        failed: phases.filter((phase) => phase === "Failed").length,
        cancelled: phases.filter((phase) => phase === "Cancelled").length,
        ...(current && { current: current.metadata.name }),
        done,
      },
    };
  }

  /** The record is ahead of the status. */
  #phaseOf(round: FederationRound) {
    return this.#desk.get(round.metadata.uid)?.phase ?? round.status.phase;
  }

  #wantsRound(federation: Federation, world: FederationWorld, created: number): boolean {
    const { rounds } = federation.spec;
    if (!rounds || created >= rounds.count || world.initial.kind !== "ready" || !isAvailable(world)) return false;
    const open = this.#desk
      .open()
      .some((record) => record.federation === federation.metadata.name && !isTerminal(record));
    return world.rounds.current === undefined && !open;
  }

  /** `<federation>-r<k>`: created under the same name again after a crash, and then it is there already. */
  async #createRound(federation: Federation, created: number): Promise<string> {
    const { context } = this.#modules;
    const { name: fed, namespace } = federation.metadata;
    const name = `${fed}-r${created + 1}`;
    const owner = controllerReference({ ...federation, apiVersion: "rondo.dev/v1alpha1", kind: "Federation" });
    const metadata = { name, namespace, labels: { "rondo.dev/federation": fed }, ownerReferences: [owner] };
    try {
      const round = await context.client.create(FEDERATION_ROUNDS, { metadata, spec: { federation: fed } });
      context.caches.rounds.put(round);
      context.events.record(federation, { type: "Normal", reason: "RoundCreated", note: `created round ${name}` });
    } catch (error) {
      if (!isKubeFault(error, "AlreadyExists")) throw error;
    }
    const value = Buffer.from(String(created + 1));
    await context.journal.commit([{ put: { space: CREATED, key: federation.metadata.uid, value } }]);
    return name;
  }

  /** How many rounds this federation has created; a round that was deleted since counts. */
  async #created(federation: Federation): Promise<number> {
    const { context } = this.#modules;
    const { uid, name } = federation.metadata;
    const known = await context.journal.get(CREATED, uid);
    const journalled = known ? Number(Buffer.from(known).toString("utf8")) : 0;
    const pattern = new RegExp(`^${name}-r([1-9][0-9]*)$`);
    const numbers = context.objects.roundsOf(name).map((round) => Number(pattern.exec(round.metadata.name)?.[1] ?? 0));
    return Math.max(journalled, 0, ...numbers);
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
  }
}
