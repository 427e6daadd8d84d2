/** What happens to a trainer, and what it does itself. A site that cannot train is left behind with its reason; what may pass is tried again. */
import { JOBS, PODS } from "../../../../operator/kube/resources.ts";
import { advertiseGpus } from "../../../cluster/gpus.ts";
import { NAMESPACE } from "../../../demo/install.ts";
import { ABSENT_IMAGE, GPUS } from "../../failures/federation.ts";
import type { Behaviour } from "../../failures/site.ts";
import { type Arena, TRUSTED } from "../arena.ts";
import { type Fault, fails, succeeds, without } from "../fault.ts";
import { evict, jobOf, trainerOf } from "../workloads.ts";

const nothing = async () => undefined;

/** One site's trainers misbehave by themselves, from the start. */
const misbehaving = (name: string, slug: string, behaviour: Behaviour, reason?: RegExp): Fault => ({
  name,
  slug,
  at: { training: reason ? without({ north: reason }) : succeeds },
  behave: { north: behaviour },
  strike: nothing,
});

export const trainers: readonly Fault[] = [
  misbehaving("trainer exits with 1 once", "exit-once", "crash once"),
  misbehaving("trainer exits with 1 twice", "exit-twice", "crash", /^TrainerCrashed$/),
  misbehaving("trainer exits with 70: never tried again", "exit-70", "exit 70", /^TrainingDiverged$/),
  {
    ...misbehaving("trainer needs more memory than its limit, once", "oom-once", "oom once"),
    spec: { training: { resources: { memory: "96Mi" } } },
  },
  {
    ...misbehaving("trainer needs more memory than its limit, always", "oom", "oom", /^OutOfMemory$/),
    spec: { training: { resources: { memory: "96Mi" } } },
  },
  misbehaving("trainer delivers NaN", "nan", "nan", /^NonFinite$/),
  {
    name: "trainer evicted",
    slug: "evicted",
    quick: true,
    at: { training: succeeds },
    async strike({ under }, [round]) {
      const site = under.site("north");
      await evict(site, await trainerOf(site, round!.name));
    },
  },
  {
    name: "trainer preempted by a pod of higher priority",
    slug: "preempted",
    at: { training: succeeds },
    prepare: () => advertiseGpus("south", 1),
    async strike({ under }, _) {
      await under
        .site("south")
        .kubectl.apply([
          { apiVersion: "scheduling.k8s.io/v1", kind: "PriorityClass", metadata: { name: "urgent" }, value: 1000 },
          urgentPod,
        ]);
      await under.site("south").kubectl.run(["wait", "pod/urgent", "--for=condition=PodScheduled", "--timeout=60s"]);
    },
    heal: ({ under }) =>
      forget(under.site("south").kubectl.run(["delete", "pod/urgent", "--grace-period=0", "--force"])),
  },
  {
    name: "trainer's pod deleted by hand",
    slug: "pod-gone",
    at: { training: succeeds },
    async strike({ under }, [round]) {
      const site = under.site("north");
      await site.kube.delete(PODS, { namespace: NAMESPACE, name: await trainerOf(site, round!.name) });
    },
  },
  {
    name: "trainer's Job deleted by hand",
    slug: "job-gone",
    at: { training: without({ north: /^JobDeleted$/ }) },
    async strike({ under }, [round]) {
      const site = under.site("north");
      await site.kube.delete(JOBS, { namespace: NAMESPACE, name: await jobOf(site, round!.name) });
    },
  },
  {
    name: "no GPU free at a site until the accept deadline",
    slug: "no-gpu",
    at: { training: without({ south: /^(NoCapacity|Unschedulable)$/ }) },
    behave: { south: "hang" },
    spec: { deadlines: { accept: "25s" } },
    prepare: () => advertiseGpus("south", 0),
    strike: nothing,
  },
  {
    name: "no GPU free at a site for a while",
    slug: "late-gpu",
    at: { training: succeeds },
    behave: { south: "hang" },
    prepare: () => advertiseGpus("south", 0),
    async strike({ under }) {
      under.site("south").behave("train", "training");
    },
    lasts: "briefly",
    heal: () => advertiseGpus("south", GPUS),
  },
  {
    name: "image that no node has",
    slug: "image",
    at: { training: fails("QuorumLost") },
    federation: TRUSTED,
    behave: Object.fromEntries(["north", "south", "west", "east"].map((name) => [name, "hang" as const])),
    spec: { training: { image: ABSENT_IMAGE } },
    strike: nothing,
  },
  {
    name: "command that a site's image does not have",
    slug: "command",
    at: { training: without({ east: /^CannotStart$/ }) },
    behave: { east: "hang" },
    prepare: async ({ under }: Arena) => under.site("east").removeCommand(),
    strike: nothing,
  },
];

const urgentPod = {
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: "urgent", namespace: "default" },
  spec: {
    priorityClassName: "urgent",
    terminationGracePeriodSeconds: 0,
    containers: [{ name: "urgent", image: "localhost/pause:1", resources: { limits: { "nvidia.com/gpu": "1" } } }],
  },
};

const forget = (promise: Promise<unknown>): Promise<void> => promise.then(() => undefined);
