/**
 * What chaos happens in: the federation under test (../failures/federation.ts), a gate before its registry, and a Federation for each moment.
 * Holds: after mend() everything is as after open(), whatever a fault has left.
 */
import { expect } from "vitest";
import type { Participant } from "../../../operator/api/participant.ts";
import { FEDERATION_ROUNDS, PARTICIPANTS } from "../../../operator/kube/resources.ts";
import { rejoin, restoreLink, stopLosing } from "../../cluster/faults.ts";
import { advertiseGpus } from "../../cluster/gpus.ts";
import { clusterSet, nodeAddress } from "../../cluster/layout.ts";
import { up } from "../../cluster/up.ts";
import { NAMESPACE } from "../../demo/install.ts";
import { REGISTRY_PORT } from "../../demo/registry.ts";
import { isReady, speedUpAll } from "../failures/crashes.ts";
import { clearDisk } from "../failures/disks.ts";
import { FederationUnderTest, GPUS, EVERYBODY as LABEL } from "../failures/federation.ts";
import { type FederationObject, federation, haveVersions, inviting, LARGE, trusted } from "../failures/federations.ts";
import { eventually } from "../failures/rounds.ts";
import type { Site } from "../failures/site.ts";
import { RegistryGate } from "./registry-gate.ts";

const GATE_PORT = 30_600;

/** Where the guest takes part. */
export const EVERYBODY = "everybody";
/** Where one contribution is enough, and where the test says what a trainer does. */
export const TRUSTED = "trusted-chaos";

export class Arena {
  readonly under: FederationUnderTest;
  readonly gate: RegistryGate;
  readonly clusters: readonly string[];

  private constructor(under: FederationUnderTest, gate: RegistryGate) {
    this.under = under;
    this.gate = gate;
    this.clusters = ["coordinator", ...under.sites.map(({ name }) => name)];
  }

  /** @param outageMs  that rounds have to outlast */
  static async open(outageMs: number): Promise<Arena> {
    const under = await FederationUnderTest.open();
    await under.openGuest();
    const registry = { host: nodeAddress("coordinator"), port: REGISTRY_PORT };
    const gate = new RegistryGate({ host: clusterSet().gateway, port: GATE_PORT }, registry);
    await gate.open();
    const arena = new Arena(under, gate);
    const federations = federationsBehind(gate.address, outageMs);
    await under.coordinator.apply(federations);
    await haveVersions(
      under,
      federations.map(({ metadata }) => metadata.name),
    );
    await arena.mend();
    return arena;
  }

  async close(): Promise<void> {
    await this.gate.close();
    this.under.close();
  }

  async mend(): Promise<void> {
    const { under, gate, clusters } = this;
    const everybody = this.members(EVERYBODY);
    await gate.allFair();
    for (const folder of [`${under.state}/operator`, ...everybody.map(({ folders }) => folders.agent)])
      clearDisk(folder);
    await Promise.all(
      clusters.flatMap((name) => [restoreLink(name), rejoin(name), stopLosing(name), speedUpAll(name)]),
    );
    await up([...clusters]);
    for (const site of everybody) site.behaveWell();
    await Promise.all(under.sites.map(({ name }) => advertiseGpus(name, GPUS)));
    await under.coordinator.run(["-n", NAMESPACE, "scale", "statefulset/rondo-operator", "--replicas=1"]);
    await isReady(under.kube, "operator");
    await Promise.all(
      everybody.map(async ({ kubectl, kube, namespace }) => {
        await kubectl.run(["-n", namespace, "scale", "deployment/rondo-agent", "--replicas=1"]);
        await isReady(kube, "agent", namespace);
      }),
    );
    await this.#removeRounds();
    await eventually(async () => {
      for (const { name } of everybody) expect(await this.isConnected(name), name).toBe(true);
    }, 180_000);
  }

  /** One that is stuck would keep the next one of its federation waiting. */
  async #removeRounds(): Promise<void> {
    const { kube } = this.under;
    const { items } = await kube.list(FEDERATION_ROUNDS, { namespace: NAMESPACE });
    await Promise.all(items.map(({ metadata }) => kube.delete(FEDERATION_ROUNDS, metadata as { name: string })));
    await eventually(async () => {
      expect((await kube.list(FEDERATION_ROUNDS, { namespace: NAMESPACE })).items).toEqual([]);
    });
  }

  /** Whom this federation invites. */
  members(federation: string): readonly Site[] {
    const { sites, guest } = this.under;
    return federation === EVERYBODY ? [...sites, guest] : sites;
  }

  async isConnected(name: string): Promise<boolean> {
    const found = (await this.under.kube.get(PARTICIPANTS, { namespace: NAMESPACE, name })) as unknown as Participant;
    return found.status.connected === true;
  }
}

/** Shapes differ, so that no two of them ever have an adapter of the same bytes. */
function federationsBehind(registry: string, outageMs: number): FederationObject[] {
  const all = [
    federation("planning", { rank: 4 }, registry),
    federation("training", { rank: 6 }, registry),
    federation("aggregating", LARGE, registry),
    federation("publishing", { rank: 10 }, registry),
    trusted(federation(TRUSTED, { rank: 12 }, registry)),
    inviting(federation(EVERYBODY, { rank: 14 }, registry), LABEL),
  ];
  // What is lost is to be lost to the fault and not to the clock: masked vectors have 70 % of the aggregation's time.
  const outage = outageMs / 1000;
  const deadlines = { accept: `${120 + outage}s`, training: `${180 + outage}s`, aggregation: `${120 + 2 * outage}s` };
  return all.map(({ spec, ...rest }) => ({ ...rest, spec: { ...spec, deadlines } }));
}
