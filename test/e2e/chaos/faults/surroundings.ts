/** Clocks that disagree, disks that are full, and a second operator. */
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { expect } from "vitest";
import { type KubeLease, LEASES } from "../../../../operator/kube/resources.ts";
import { NAMESPACE } from "../../../demo/install.ts";
import { killProcess } from "../../failures/crashes.ts";
import { clearDisk, fillDisk } from "../../failures/disks.ts";
import type { FederationUnderTest } from "../../failures/federation.ts";
import { eventually, roundThat } from "../../failures/rounds.ts";
import type { Site } from "../../failures/site.ts";
import { each, type Fault, succeeds } from "../fault.ts";
import { MOMENTS } from "../moments.ts";
import { podsAre, scale } from "../workloads.ts";

const SKEW_SECONDS = 600;

export const surroundings: readonly Fault[] = [
  {
    name: "clocks: one site 10 minutes ahead, another 10 minutes behind",
    slug: "clocks",
    at: each(["training", "publishing"], succeeds),
    async prepare({ under }) {
      await Promise.all([skew(under.site("north"), SKEW_SECONDS), skew(under.site("south"), -SKEW_SECONDS)]);
    },
    // Connections are made anew, certificates are judged again.
    async strike() {
      killProcess("coordinator", "operator");
    },
    async restore({ under }) {
      await Promise.all([skew(under.site("north"), 0), skew(under.site("south"), 0)]);
    },
  },
  {
    name: "operator's disk full (journal and spool)",
    slug: "disk-op",
    quick: true,
    at: each(MOMENTS, succeeds),
    async strike({ under }, rounds) {
      fillDisk(join(under.state, "operator"));
      const training = rounds.find(({ moment }) => moment === "training")!;
      await roundThat(under, training.name, "told of the full disk", ({ status }) =>
        (status.conditions ?? []).some(({ type, reason }) => type === "Reconciling" && reason === "StorageFull"),
      );
    },
    lasts: "briefly",
    heal: async ({ under }) => clearDisk(join(under.state, "operator")),
  },
  {
    name: "operator's disk full, and the operator killed meanwhile",
    slug: "disk-op-kill",
    at: each(["training", "aggregating"], succeeds),
    async strike({ under }) {
      fillDisk(join(under.state, "operator"));
      killProcess("coordinator", "operator");
    },
    lasts: "briefly",
    heal: async ({ under }) => clearDisk(join(under.state, "operator")),
  },
  {
    name: "a site's disk full (ledger and deltas)",
    slug: "disk-site",
    at: each(MOMENTS, succeeds),
    strike: async ({ under }) => fillDisk(under.site("west").folders.agent),
    lasts: "briefly",
    heal: async ({ under }) => clearDisk(under.site("west").folders.agent),
  },
  {
    name: "two operators on one volume",
    slug: "two-volume",
    at: each(MOMENTS, succeeds),
    async strike({ under }) {
      await scale(under.coordinator, "statefulset/rondo-operator", 2);
      await staysSecond(under, "rondo-operator-1");
    },
    heal: ({ under }) => scale(under.coordinator, "statefulset/rondo-operator", 1),
    restore: ({ under }) => podsAre(under.kube, "operator", 1),
  },
  {
    name: "two operators, the second with a volume of its own",
    slug: "two-own",
    at: each(MOMENTS, succeeds),
    async strike({ under }) {
      await under.coordinator.apply([await anotherOperator(under)]);
      await staysSecond(under, ANOTHER);
    },
    heal: ({ under }) =>
      under.coordinator.run(["-n", NAMESPACE, "delete", "pod", ANOTHER, "--wait"]).then(() => undefined),
  },
];

const ANOTHER = "another-operator";

/** The operator's pod under another name, with nothing on its volume, and not behind the Services. */
async function anotherOperator({ coordinator }: FederationUnderTest): Promise<object> {
  const { spec } = await coordinator.json<{ spec: { template: { spec: PodSpec } } }>([
    ...["-n", NAMESPACE, "get", "statefulset/rondo-operator"],
  ]);
  const { volumes, ...pod } = spec.template.spec;
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: ANOTHER, namespace: NAMESPACE },
    spec: {
      ...pod,
      volumes: volumes.map((volume) => (volume.name === "data" ? { name: "data", emptyDir: {} } : volume)),
    },
  };
}

type PodSpec = { volumes: Array<{ name: string }> };

/** For longer than a Lease lasts, it runs and the first one's Lease is renewed. */
async function staysSecond({ kube, coordinator }: FederationUnderTest, pod: string): Promise<void> {
  const jsonpath = "jsonpath={.status.containerStatuses[0].state.running.startedAt}";
  await eventually(async () => {
    expect(await coordinator.run(["-n", NAMESPACE, "get", "pod", pod, "-o", jsonpath])).not.toBe("");
  });
  for (const untilMs = Date.now() + 20_000; Date.now() < untilMs; await delay(1_000)) {
    const lease = (await kube.get(LEASES, { namespace: NAMESPACE, name: "rondo-operator" })) as KubeLease;
    expect(lease.spec?.holderIdentity).toMatch(/^rondo-operator-0_/);
  }
}

/** @param seconds  by which the site's agent is ahead; its trainers are told so, since in a real cluster they would share its clock */
async function skew(site: Site, seconds: number): Promise<void> {
  const shift = `const n=Date.now,D=Date;globalThis.Date=class extends D{constructor(...a){a.length?super(...a):super(n()+${seconds * 1000})}static now(){return n()+${seconds * 1000}}};`;
  const options =
    seconds === 0 ? "NODE_OPTIONS-" : `NODE_OPTIONS=--import=data:text/javascript,${encodeURIComponent(shift)}`;
  site.skewTrainers(seconds);
  await site.kubectl.run(["-n", NAMESPACE, "set", "env", "deployment/rondo-agent", options]);
  await site.kubectl.run(["-n", NAMESPACE, "rollout", "status", "deployment/rondo-agent", "--timeout=3m"]);
}
