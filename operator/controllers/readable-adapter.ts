/**
 * Which adapters a participant may download: the parents of rounds it is invited to, and every published version of a
 * federation whose selector matches it (to evaluate at its site what it helped to make).
 */
import { effectiveSettings } from "../api/merge.ts";
import type { RoundRecord } from "../round/record.ts";
import type { Context } from "./context.ts";
import { there } from "./objects.ts";
import { repositoryOf } from "./registry.ts";
import type { Workplace } from "./round/workplace.ts";
import { selects } from "./selector.ts";

export async function readableAdapter(
  context: Context,
  workplace: Workplace,
  participant: string,
  digest: string,
): Promise<{ file: string; byteLength: number; round?: RoundRecord } | undefined> {
  for (const record of workplace.desk.open()) {
    if (!record.plan || !record.participants.some(({ name }) => name === participant)) continue;
    const { parent, publish } = await workplace.plan(record, 1);
    if (parent.adapterDigest !== digest) continue;
    const repository = (signal: AbortSignal) =>
      repositoryOf(context.client, context.config.namespace, publish.oci, { signal });
    return { ...(await context.adapters.ensure(parent, repository)), round: record };
  }
  return publishedVersion(context, participant, digest);
}

async function publishedVersion(context: Context, participant: string, digest: string) {
  const labels = context.objects.participant(participant)?.metadata.labels;
  for (const raw of context.caches.federations.list()) {
    const federation = there(context.objects.federation(raw.metadata.name));
    if (!federation) continue;
    const { participants, publish } = effectiveSettings(federation.spec, {});
    if (!selects(participants.selector, labels)) continue;
    const versions = context.objects.versionsOf(federation.metadata.name);
    const version = versions.find(({ spec }) => spec.adapterDigest === digest);
    const repository = (signal: AbortSignal) =>
      repositoryOf(context.client, context.config.namespace, publish.oci, { signal });
    if (version) return context.adapters.ensure(version.spec, repository);
  }
  return undefined;
}
