/**
 * Four rounds of four federations, brought to four moments and kept there, so that one fault meets all of them: planning (the parent adapter is
 * asked of the registry, which does not answer), training (trainers wait), aggregating (the last masked vector comes over a slow line), publishing
 * (the registry takes nothing).
 * Holds: what keeps a round is outside of Rondo; let go, it goes on by itself.
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import type { AdapterVersion } from "../../../operator/api/adapter-version.ts";
import type { Federation } from "../../../operator/api/federation.ts";
import type { FederationRound } from "../../../operator/api/federation-round.ts";
import { ADAPTER_VERSIONS, FEDERATIONS } from "../../../operator/kube/resources.ts";
import { NAMESPACE } from "../../demo/install.ts";
import { slowDown, speedUp } from "../failures/crashes.ts";
import { atStep, roundThat, startRound } from "../failures/rounds.ts";
import type { Behaviour, Site } from "../failures/site.ts";
import type { Arena } from "./arena.ts";

export const MOMENTS = ["planning", "training", "aggregating", "publishing"] as const;
export type Moment = (typeof MOMENTS)[number];

/** Nine MiB take three minutes: longer than any fault lasts that is not itself a matter of the line. */
const SLOW_KIB_PER_SECOND = 48;
/** Whose line it is. Faults strike other sites, or all. */
export const SLOW_SITE = "east";

export interface RoundAt {
  moment: Moment;
  /** Of the FederationRound. */
  name: string;
  federation: string;
}

export interface RoundWish {
  name: string;
  federation: string;
  spec: Partial<FederationRound["spec"]>;
  /** What each site's trainers do in it, where that is not what the moment asks for. */
  behave: Readonly<Record<string, Behaviour>>;
}

/** @returns when the round is at its moment. Aggregating comes last of several: its line is slow from then on. */
export async function bringTo(arena: Arena, moment: Moment, wish: RoundWish): Promise<RoundAt> {
  const { under, gate } = arena;
  const { name, federation, spec, behave } = wish;
  const at = { moment, name, federation };
  const otherwise = moment === "training" ? "wait" : "train";
  for (const site of arena.members(federation)) site.behave(behave[site.name] ?? otherwise, federation);
  const repository = `adapters/${federation}`;
  if (moment === "planning") {
    gate.hold("read", repository);
    await forgetCopy(arena, federation);
  }
  if (moment === "publishing") gate.hold("write", repository);
  if (moment === "aggregating") await slowDown(SLOW_SITE, SLOW_KIB_PER_SECOND);
  await startRound(under, name, { ...spec, federation });
  switch (moment) {
    case "planning":
      await roundThat(under, name, moment, () => gate.isAsked("read", repository));
      break;
    case "training":
      // Whoever does something else than to wait may be over before the others have begun.
      await roundThat(
        under,
        name,
        moment,
        ({ status }) => waiting(arena.members(federation), behave) <= trainingIn(status),
      );
      break;
    case "aggregating":
      await atStep(under, name, { step: "mask", answered: arena.members(federation).length - 1 });
      break;
    case "publishing":
      await roundThat(under, name, moment, () => gate.isAsked("write", repository));
  }
  return at;
}

/** What has kept the round is gone. */
export async function letGo(arena: Arena, { moment, federation }: RoundAt): Promise<void> {
  const { gate } = arena;
  switch (moment) {
    case "planning":
      return gate.letGo("read", `adapters/${federation}`);
    case "training":
      for (const site of arena.members(federation)) site.letGo(federation);
      return;
    case "aggregating":
      return speedUp(SLOW_SITE, SLOW_KIB_PER_SECOND);
    case "publishing":
      return gate.letGo("write", `adapters/${federation}`);
  }
}

/** The operator's own copy of the adapter that the next round starts from: without it a plan needs the registry. */
async function forgetCopy({ under }: Arena, federation: string): Promise<void> {
  const { status } = (await under.kube.get(FEDERATIONS, {
    namespace: NAMESPACE,
    name: federation,
  })) as never as Federation;
  const { name } = status.activeAdapter!;
  const version = (await under.kube.get(ADAPTER_VERSIONS, { namespace: NAMESPACE, name })) as never as AdapterVersion;
  const file = `${version.spec.adapterDigest.replace("sha256:", "")}.safetensors`;
  rmSync(join(under.state, "operator", "adapters", file), { force: true });
}

function waiting(sites: readonly Site[], behave: RoundWish["behave"]): number {
  return sites.filter(({ name }) => (behave[name] ?? "wait") === "wait").length;
}

const trainingIn = (status: FederationRound["status"]): number =>
  (status.participants ?? []).filter(({ state }) => state === "Training").length;
