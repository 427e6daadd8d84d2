/**
 * One FederationRound: observe → decide → journal → act → report.
 * This controller watches rounds, federations, participants and versions, and is woken by agents' reports and by its own work.
 * Holds: nothing is done before the decision to do it is on disk; status follows the record and never leads it.
 */
import { type FederationRound, isTerminal as isTerminalPhase } from "../../api/federation-round.ts";
import type { Write } from "../../journal/journal.ts";
import { again, DONE, type Result } from "../../kube/controller.ts";
import { isKubeFault } from "../../kube/faults.ts";
import { FEDERATION_ROUNDS } from "../../kube/resources.ts";
import { decide } from "../../round/decide.ts";
import { isTerminal, type RoundRecord } from "../../round/record.ts";
import type { Decision } from "../../round/world.ts";
import type { Context } from "../context.ts";
import { identityOf } from "../outcomes.ts";
import { act } from "./act.ts";
import { measureSteps } from "./cohort-events.ts";
import type { RoundDesk } from "./desk.ts";
import { observe } from "./observe.ts";
import { RoundReporter } from "./report.ts";
import type { Workplace } from "./workplace.ts";

/** Held while the round is not terminal, so that its deletion reaches the participants first. */
export const FINALIZER = "rondo.dev/cancel-participants";

export class RoundReconciler {
  readonly #context: Context;
  readonly #workplace: Workplace;
  readonly #reporter: RoundReporter;
  /** The federation of a round that has just ended may want another one. */
  readonly #ended: (federation: string) => void;

  constructor(context: Context, workplace: Workplace, ended: (federation: string) => void) {
    this.#context = context;
    this.#workplace = workplace;
    this.#reporter = new RoundReporter(context);
    this.#ended = ended;
  }

  /** @param name  of the FederationRound in the operator's namespace */
  async reconcile(name: string): Promise<Result> {
    const read = this.#context.objects.round(name);
    if (read.kind === "invalid") {
      this.#context.log.error({ round: name, problem: read.problem }, "round cannot be read");
      return DONE;
    }
    const round = read.kind === "there" ? read.object : undefined;
    const isFree = await this.#bury(name, round);
    // Who had the name before has not ended: how it ends may be how this one does.
    if (!round || !isFree) return DONE;
    const { desk } = this.#workplace;
    const { uid } = round.metadata;
    if (desk.isPutAway(uid) && isAsShown(round, desk)) return DONE;
    const known = await desk.read(uid);
    if (!known && (isTerminalPhase(round.status.phase) || round.metadata.deletionTimestamp))
      return this.#release(round);
    return this.#follow(round, known ?? (await this.#begin(round)));
  }

  async #begin(round: FederationRound): Promise<RoundRecord> {
    const { desk } = this.#workplace;
    const recalled = await this.#context.outcomes.recall(round);
    if (recalled) return desk.take(recalled);
    await this.#hold(round);
    return desk.begin(identityOf(round), this.#context.now());
  }

  async #follow(round: FederationRound, before: RoundRecord): Promise<Result> {
    const { storage } = this.#context;
    const isOpen = !isTerminal(before);
    if (storage.journalIsFull && isOpen) {
      await this.#showFull(round, before);
      return DONE;
    }
    let shown: Promise<unknown> = Promise.resolve();
    const stopListening = storage.onJournalFull(() => {
      if (isOpen) shown = this.#showFull(round, before);
    });
    const { record, lookAgainAtMs } = await this.#step(before.uid).finally(stopListening);
    await shown;
    const heldBackUntilMs = await this.#report(round, record);
    if (isTerminal(record)) {
      this.#ended(record.federation);
      await this.#release(round);
      return this.#putAway(record);
    }
    const nextMs = Math.min(lookAgainAtMs ?? Number.POSITIVE_INFINITY, heldBackUntilMs ?? Number.POSITIVE_INFINITY);
    return nextMs === Number.POSITIVE_INFINITY ? DONE : again(Math.max(0, nextMs - this.#context.now()));
  }

  /** No decision can be written down: it is only shown why. Room wakes every open round, and lets a step go on that waits for it. */
  async #showFull(round: FederationRound, record: RoundRecord): Promise<void> {
    const { storage, now, log } = this.#context;
    const waiting = { for: "StorageFull", message: storage.problem ?? "", sinceMs: now() };
    const shown = record.waiting?.for === "StorageFull" ? record : { ...record, waiting };
    await this.#report(round, shown).catch((error: unknown) =>
      log.warn({ round: record.name, err: error }, "the round's status could not say that the volume is full"),
    );
  }

  async #step(uid: string): Promise<Decision> {
    let decision: Decision | undefined;
    const record = await this.#workplace.desk.update(
      uid,
      (current) => {
        decision = decide(current, observe(this.#context, this.#workplace, current));
        return this.#context.outcomes.attribute(decision.record);
      },
      (before, after) => {
        measureSteps(this.#context, before, after);
        return [...this.#leaveOut(before, after), ...this.#context.tally.writes(before, after)];
      },
    );
    await act(this.#context, this.#workplace, record, decision!.actions);
    return { ...decision!, record };
  }

  /** Whoever is named now is left out from this very commit on: the next round may be planned the moment after. */
  #leaveOut(before: RoundRecord, after: RoundRecord): Write[] {
    const dealers = after.secure?.dealers ?? [];
    if (dealers.length === 0 || dealers === before.secure?.dealers) return [];
    const sure = dealers.filter(({ leftOut }) => leftOut);
    return this.#context.leftOut.add(after.federation, sure);
  }

  /** Unless the cache is behind what was just written: its change comes, and brings us here again. */
  async #putAway({ uid, name }: RoundRecord): Promise<Result> {
    const { objects, attendance } = this.#context;
    const { desk } = this.#workplace;
    const read = objects.round(name);
    if (read.kind !== "there" || !isAsShown(read.object, desk)) return DONE;
    await desk.putAway(uid);
    this.#reporter.forget(uid);
    attendance.forgetWork(uid);
    return DONE;
  }

  async #report(round: FederationRound, record: RoundRecord): Promise<number | undefined> {
    try {
      return await this.#reporter.report(round, record);
    } catch (error) {
      // Deleted by force while we worked on it: there is nobody left to tell.
      if (isKubeFault(error, "NotFound")) return undefined;
      throw error;
    }
  }

  async #hold(round: FederationRound): Promise<void> {
    const { name, namespace, resourceVersion, finalizers = [] } = round.metadata;
    if (finalizers.includes(FINALIZER)) return;
    const patch = { metadata: { resourceVersion, finalizers: [...finalizers, FINALIZER] } };
    const written = await this.#context.client.patchMerge(FEDERATION_ROUNDS, { name, namespace }, patch);
    this.#context.caches.rounds.put(written);
  }

  async #release(stale: FederationRound): Promise<Result> {
    const { name, namespace, uid } = stale.metadata;
    const raw = this.#context.caches.rounds.get({ name, namespace });
    const { resourceVersion, finalizers = [] } = raw?.metadata ?? {};
    if (raw?.metadata.uid !== uid || !finalizers.includes(FINALIZER)) return DONE;
    const patch = { metadata: { resourceVersion, finalizers: finalizers.filter((entry) => entry !== FINALIZER) } };
    try {
      this.#context.caches.rounds.put(
        await this.#context.client.patchMerge(FEDERATION_ROUNDS, { name, namespace }, patch),
      );
    } catch (error) {
      if (!isKubeFault(error, "NotFound")) throw error;
    }
    return DONE;
  }

  /** Records under this name whose object is gone: cancelled if they had not ended, then forgotten. @returns whether all of them are */
  async #bury(name: string, living: FederationRound | undefined): Promise<boolean> {
    let isFree = true;
    for (const uid of this.#workplace.desk.uidsNamed(name)) {
      if (uid === living?.metadata.uid) continue;
      const { record: after } = await this.#step(uid);
      // What is published gets its AdapterVersion first; that work wakes us again.
      if (!isTerminal(after)) {
        isFree = false;
        continue;
      }
      await this.#workplace.desk.forget(uid, await this.#context.outcomes.keep(after));
      this.#reporter.forget(uid);
      this.#ended(after.federation);
    }
    return isFree;
  }
}

/** Status says what the record says, and nothing holds the object any more. */
function isAsShown({ metadata, status }: FederationRound, desk: Pick<RoundDesk, "phase">): boolean {
  return status.phase === desk.phase(metadata.uid) && !metadata.finalizers?.includes(FINALIZER);
}
