/** Rounds that a test makes by hand, what became of them, and what a round must never leave. */
import { setTimeout as delay } from "node:timers/promises";
import { expect } from "vitest";
import type { AdapterVersion } from "../../../operator/api/adapter-version.ts";
import { type FederationRound, isTerminal, type ParticipantStatusRow } from "../../../operator/api/federation-round.ts";
import { ADAPTER_VERSIONS, FEDERATION_ROUNDS } from "../../../operator/kube/resources.ts";
import { parseReference } from "../../../operator/publish/reference.ts";
import type { CohortStep } from "../../../operator/round/record.ts";
import { NAMESPACE } from "../../demo/install.ts";
import type { FederationUnderTest } from "./federation.ts";

/** Beyond a round's own deadlines: the machine may be busy. */
const PATIENCE_MS = 180_000;
const POLL_MS = 250;

export async function startRound(
  { kube }: FederationUnderTest,
  name: string,
  spec: Partial<FederationRound["spec"]> & { federation: string },
): Promise<void> {
  await kube.delete(FEDERATION_ROUNDS, { namespace: NAMESPACE, name }); // of a run that kept its clusters
  await kube.create(FEDERATION_ROUNDS, {
    apiVersion: "rondo.dev/v1alpha1",
    kind: "FederationRound",
    metadata: { name, namespace: NAMESPACE },
    spec,
  } as never);
}

export async function roundNow({ kube }: FederationUnderTest, name: string): Promise<FederationRound> {
  return (await kube.get(FEDERATION_ROUNDS, { namespace: NAMESPACE, name })) as unknown as FederationRound;
}

/** @returns the round once the condition holds. @throws with what the round says, when it does not in time */
export async function roundThat(
  federation: FederationUnderTest,
  name: string,
  what: string,
  holds: (round: FederationRound) => boolean,
): Promise<FederationRound> {
  let last: FederationRound | undefined;
  for (const untilMs = Date.now() + PATIENCE_MS; Date.now() < untilMs; await delay(POLL_MS)) {
    // An operator that is being killed takes nothing from its API server, but a busy machine may.
    last = await roundNow(federation, name).catch(() => last);
    if (last && holds(last)) return last;
    if (last && isTerminal(last.status.phase)) break;
  }
  throw new Error(`${name} is not ${what}: ${JSON.stringify(last?.status, null, 1)}`);
}

/** @returns once this many members of the round's only cohort have answered this step of secure aggregation, and no later step has begun */
export async function atStep(
  federation: FederationUnderTest,
  name: string,
  { step, answered }: { step: CohortStep; answered: number },
): Promise<void> {
  const said = `step ${step}: ${answered} of `;
  await roundThat(federation, name, `at "${said}"`, (round) => outcome(round).message?.includes(said) === true);
}

/** The round when it is over, seen to have left nothing at the sites and nothing half-written in the registry. */
export async function endOf(federation: FederationUnderTest, name: string): Promise<FederationRound> {
  const round = await terminal(federation, name);
  await nothingLeft(federation, name);
  await onlyWholeVersions(federation, round.spec.federation);
  return round;
}

/** The round when it is over, whatever is left: for rounds that end while a site cannot be reached. */
export function terminal(federation: FederationUnderTest, name: string): Promise<FederationRound> {
  return roundThat(federation, name, "over", ({ status }) => isTerminal(status.phase));
}

/** How each site's session ended: nothing of it is left to answer with, and nothing was asked of it that it had to refuse. */
export async function sessionsOf(
  { sites }: FederationUnderTest,
  { status, spec }: FederationRound,
): Promise<Record<string, string | undefined>> {
  return eventually(() =>
    Object.fromEntries(
      sites.map((site) => {
        const session = site.sessionOf(spec.federation, status.number!);
        expect(session?.refused ?? false, site.name).toBe(false);
        expect(session?.state ?? "ABORTED", site.name).toMatch(/^(RELEASED|ABORTED)$/);
        return [site.name, session?.state];
      }),
    ),
  );
}

/** Reason and sentence of everybody that did not contribute. */
export function lost({ status }: FederationRound): Record<string, Partial<ParticipantStatusRow>> {
  const rows = (status.participants ?? []).filter(({ state }) => state !== "Contributed");
  return Object.fromEntries(rows.map(({ name, state, reason, message }) => [name, { state, reason, message }]));
}

export const sentence = (pattern: RegExp) => expect.stringMatching(pattern);

/** Of a site that did all it was asked for, in a cohort of which too few are left: nothing of it has left its cluster but its keys. */
export const unopened = { state: "Excluded", reason: "CohortTooSmall", message: sentence(/./) };

export function outcome({ status }: FederationRound): { phase?: string; reason?: string; message?: string } {
  const succeeded = status.conditions?.find(({ type }) => type === "Succeeded");
  return { phase: status.phase, reason: succeeded?.reason, message: succeeded?.message };
}

/** Seconds by the operator's clock from the round's first phase to its last. */
export function secondsOf({ status }: FederationRound): number {
  const times = status.phaseTimes ?? [];
  return (Date.parse(times.at(-1)?.at ?? "") - Date.parse(times[0]?.at ?? "")) / 1000;
}

export async function nothingLeft({ sites }: FederationUnderTest, round: string): Promise<void> {
  await eventually(async () => {
    const left = await Promise.all(sites.map((site) => site.leftOf(round)));
    expect(left.flat()).toEqual([]);
  });
}

/** Every tag is a version that is written down, and every version is in the registry with all its files. */
export async function onlyWholeVersions(federation: FederationUnderTest, name: string): Promise<void> {
  const { items } = await federation.kube.list(ADAPTER_VERSIONS, { namespace: NAMESPACE });
  const versions = (items as unknown as AdapterVersion[]).filter(({ spec }) => spec.federation === name);
  if (versions.length === 0) return;
  const { registry, repository } = parseReference(versions[0]!.spec.reference);
  const base = `http://${registry}/v2/${repository}`;
  const listing = await fetch(`${base}/tags/list`);
  expect(listing.status, `the registry's answer for the tags of ${repository}`).toBe(200);
  const { tags } = (await listing.json()) as { tags: string[] };
  expect(tags.sort()).toEqual(["latest", ...versions.map(({ spec }) => `v${spec.version}`)].sort());
  for (const { spec } of versions) {
    const manifest = await fetch(`${base}/manifests/${spec.digest}`, {
      headers: { accept: "application/vnd.oci.image.manifest.v1+json" },
    });
    expect(manifest.status).toBe(200);
    const { config, layers } = (await manifest.json()) as { config: Descriptor; layers: Descriptor[] };
    for (const { digest, size } of [config, ...layers]) {
      const blob = await fetch(`${base}/blobs/${digest}`, { method: "HEAD" });
      expect(Number(blob.headers.get("content-length"))).toBe(size);
    }
  }
}

type Descriptor = { digest: string; size: number };

export async function eventually<T>(check: () => Promise<T> | T, limitMs = 60_000): Promise<T> {
  for (const untilMs = Date.now() + limitMs; ; await delay(POLL_MS)) {
    try {
      return await check();
    } catch (error) {
      if (Date.now() > untilMs) throw error;
    }
  }
}
