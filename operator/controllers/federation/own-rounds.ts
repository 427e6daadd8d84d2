/**
 * The rounds that a federation creates, and removes when there are more of them than spec.rounds.historyLimit.
 * Holds: a round's name is on disk before the round exists, so that one which a crash left behind counts once; a round made by hand is
 *   neither counted nor removed, and where it has the name of the next round that one takes the next free number.
 */
import type { Federation } from "../../api/federation.ts";
import { isTerminal } from "../../api/federation-round.ts";
import { isKubeFault } from "../../kube/faults.ts";
import { controllerReference, type RawObject } from "../../kube/objects.ts";
import { FEDERATION_ROUNDS } from "../../kube/resources.ts";
import type { Context } from "../context.ts";
import type { RoundDesk } from "../round/desk.ts";
import { creatorOf } from "../round-index.ts";
import { numberInName } from "../tally.ts";

/** Each is a request to the API server; a limit that was lowered from 1000 to 10 must not hold up the reconcile. */
const MOST_REMOVED_AT_ONCE = 10;

/** A round that was on its way when the process ended. */
export async function settleCreation(context: Context, federation: Federation): Promise<void> {
  const { creating } = context.tally.creations(federation);
  if (creating === undefined) return;
  const { namespace, uid } = federation.metadata;
  const found = context.caches.rounds.get({ namespace, name: creating });
  if (found && creatorOf(found) === uid) await context.tally.settled(federation, { isOwn: true });
}

/** @returns the name of the round */
export async function createRound(context: Context, federation: Federation): Promise<string> {
  const { name: fed, namespace, uid } = federation.metadata;
  const owner = controllerReference({ ...federation, apiVersion: "rondo.dev/v1alpha1", kind: "Federation" });
  for (;;) {
    const name = `${fed}-r${context.tally.creations(federation).lastNumber + 1}`;
    await context.tally.creating(federation, name);
    const metadata = { name, namespace, labels: { "rondo.dev/federation": fed }, ownerReferences: [owner] };
    const round = await createOrFind(context, { metadata, spec: { federation: fed } });
    const isOwn = creatorOf(round) === uid;
    await context.tally.settled(federation, { isOwn });
    if (!isOwn) continue;
    context.events.record(federation, { type: "Normal", reason: "RoundCreated", note: `created round ${name}` });
    return name;
  }
}

async function createOrFind(
  { client, caches }: Context,
  draft: { metadata: Pick<RawObject["metadata"], "name" | "namespace">; spec: { federation: string } },
): Promise<RawObject> {
  try {
    const round = await client.create(FEDERATION_ROUNDS, draft);
    caches.rounds.put(round);
    return round;
  } catch (error) {
    if (!isKubeFault(error, "AlreadyExists")) throw error;
    const found = await client.get(FEDERATION_ROUNDS, draft.metadata);
    if (!found) throw error;
    return found;
  }
}

/** @returns whether more are to be removed than one reconcile does */
export async function pruneRounds(context: Context, desk: RoundDesk, federation: Federation): Promise<boolean> {
  const { rounds } = federation.spec;
  const ended = context.objects.endedRoundsOf(federation.metadata.uid);
  if (!rounds || ended.size <= rounds.historyLimit) return false;
  const { name: fed } = federation.metadata;
  const surplus = [...ended.values()]
    .filter(({ metadata }) => metadata.deletionTimestamp === undefined)
    .sort((a, b) => numberInName(fed, a.metadata.name) - numberInName(fed, b.metadata.name))
    .slice(0, -rounds.historyLimit)
    .filter(({ metadata }) => hasEnded(desk, metadata.uid));
  for (const { metadata } of surplus.slice(0, MOST_REMOVED_AT_ONCE))
    await context.client.delete(FEDERATION_ROUNDS, metadata, { preconditions: { uid: metadata.uid! } });
  return surplus.length > MOST_REMOVED_AT_ONCE;
}

/** Without a record status is all there is, and it says so. */
function hasEnded(desk: RoundDesk, uid: string | undefined): boolean {
  const phase = uid === undefined ? undefined : desk.phase(uid);
  return phase === undefined || isTerminal(phase);
}
