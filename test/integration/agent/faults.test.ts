/** Everything that may go wrong at one site ends in a reason and a sentence, and leaves no Job behind. The test is kubelet and trainer (site.ts). */
import { afterEach, beforeAll, expect, test } from "vitest";
import type { SitePolicy } from "../../../operator/agent/config.ts";
import { type AgentStatus, askAgent } from "../../../operator/agent/local.ts";
import { tensors } from "../../../operator/agent/testing/plan.ts";
import { EVENTS, JOBS, SECRETS } from "../../../operator/kube/resources.ts";
import { type SharedApiServer, sharedApiServer } from "../shared-api-server.ts";
import { participant, Site } from "./site.ts";

const job = `notes-r1-${participant}-1`;
let api: SharedApiServer;
let site: Site;

beforeAll(async () => {
  api = await sharedApiServer();
});
afterEach(() => site.close());

async function open(policy: Partial<SitePolicy> = {}): Promise<void> {
  site = await Site.open(api, policy);
  await site.startAgent();
}

async function failed(): Promise<{ reason: string; message: string }> {
  await site.until(() => site.failure() !== undefined, "a failure or refusal");
  await site.nothingLeft();
  expect(site.operator.coordinator.uploads).toEqual([]);
  return site.failure()!;
}

test.each([
  {
    says: "NaN",
    adapter: () => site.adapter((index) => (index === 3 ? Number.NaN : 1)),
    reason: "NonFinite",
    message: /^delta has 2 non-finite|^delta has 1 non-finite/,
  },
  {
    says: "another rank",
    adapter: () =>
      site.adapter(
        () => 1,
        [
          { ...tensors[0]!, shape: [4, 8] },
          { ...tensors[1]!, shape: [8, 4] },
        ],
      ),
    reason: "ShapeDiffers",
    message: /lora_A\.weight has shape 4×8 and the plan says 2×8/,
  },
  {
    says: "wrong names",
    adapter: () => site.adapter(() => 1, [{ ...tensors[0]!, name: "other" }, tensors[1]!]),
    reason: "TensorMissing",
    message: /lacks tensor/,
  },
  {
    says: "no adapter at all",
    adapter: async () => Buffer.from("x".repeat(100)),
    reason: "AdapterMalformed",
    message: /not a safetensors file/,
  },
])("a trainer that delivers $says", async ({ adapter, reason, message }) => {
  await open();
  site.send(site.plan());
  await site.kubelet.run(job);
  await (await site.trainer(job)).deliver(await adapter());
  expect(await failed()).toEqual({ reason, message: expect.stringMatching(message) });
});

test("a trainer that crashes, twice: its words stay at the site", async () => {
  await open();
  site.send(site.plan());
  await site.kubelet.run(job);
  await site.kubelet.end(job, 1, { message: "RuntimeError: record of Mrs. Miller" });
  await site.kubelet.run(job); // the Job's second pod
  await site.kubelet.end(job, 1, { message: "RuntimeError: record of Mrs. Miller" });
  expect(await failed()).toEqual({ reason: "TrainerCrashed", message: expect.stringContaining("exit code 1") });
  expect(JSON.stringify(site.reports)).not.toContain("Miller");
  const notes = async () =>
    (await api.client.list(EVENTS, { namespace: site.namespace })).items
      .filter(({ note }) => note?.includes("Miller"))
      .map(({ reason }) => reason);
  await site.until(async () => new Set(await notes()).size === 2, "the site's people read them after each try");
  expect(new Set(await notes())).toEqual(new Set(["Restarting", "TrainerCrashed"]));
});

test("data that is malformed is not tried again", async () => {
  await open();
  site.send(site.plan());
  await site.kubelet.run(job);
  await site.kubelet.end(job, 65, { message: "notes.jsonl line 7: not JSON" });
  expect(await failed()).toEqual({ reason: "DataMalformed", message: expect.stringContaining("exit code 65") });
});

test("a trainer that ends without a result", async () => {
  await open();
  site.send(site.plan());
  await site.kubelet.run(job);
  await site.kubelet.end(job, 0);
  expect(await failed()).toMatchObject({ reason: "NoResult" });
});

test("a trainer that never ends is stopped at the training deadline", async () => {
  await open();
  site.send(site.plan({}, { accept: 3_000, training: 5_000, aggregation: 20_000 }));
  await site.kubelet.run(job);
  expect(await failed()).toMatchObject({ reason: "DeadlineExceeded" });
});

test("a Job of the site's own under the trainer's name is neither used nor deleted, and its Secret neither", async () => {
  await open();
  const { namespace } = site;
  const container = { name: "nightly", image: "registry.example/backup:1" };
  await api.client.create(JOBS, {
    metadata: { namespace, name: job },
    spec: { suspend: true, template: { spec: { restartPolicy: "Never", containers: [container] } } },
  });
  await api.client.create(SECRETS, { metadata: { namespace, name: `${job}-task` }, stringData: { key: "own" } });
  site.send(site.plan());
  await site.until(() => site.failure() !== undefined, "a failure");
  expect(site.failure()).toEqual({ reason: "JobConflict", message: expect.stringContaining(job) });
  const stillOpen = async () => (await askAgent<AgentStatus>(site.agent.adminSocket, "GET", "/v1/status")).open.length;
  await site.until(async () => (await stillOpen()) === 0, "the assignment is over");
  await site.stopAgent();
  expect((await site.kubelet.jobs()).map(({ metadata }) => metadata.name)).toEqual([job]);
  expect(await site.kubelet.secretNames()).toEqual([`${job}-task`]);
});

test("no GPU free by the accept deadline, in the scheduler's words", async () => {
  await open();
  site.send(site.plan({}, { accept: 4_000, training: 60_000, aggregation: 90_000 }));
  const message = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.";
  await site.kubelet.unschedulable(job, message);
  await site.until(
    () => site.reports.some(({ kind, body }) => kind === "status" && "message" in body && body.message === message),
    "told while waiting",
  );
  expect(await failed()).toEqual({ reason: "NoCapacity", message });
});

test("an image that does not exist is given up after a short patience, long before the deadline", async () => {
  await open();
  site.send(site.plan());
  await site.kubelet.imageMissing(job);
  await site.until(() => site.failure() !== undefined, "given up", 40_000);
  expect(await failed()).toEqual({
    reason: "ImageUnavailable",
    message: "image registry.example/trainer:9 cannot be pulled (ImagePullBackOff)",
  });
});

test("a command that is not in the image is not tried again, and not waited for", async () => {
  await open();
  site.send(site.plan());
  await site.kubelet.pod(job);
  const startedMs = Date.now();
  const message =
    'failed to create containerd task: OCI runtime create failed: error during container init: exec: "trian": executable file not found in $PATH';
  await site.kubelet.end(job, 128, { reason: "StartError", message });
  expect(await failed()).toEqual({
    reason: "CannotStart",
    message: expect.stringContaining('exec: "trian": executable file not found in $PATH'),
  });
  expect(Date.now() - startedMs).toBeLessThan(15_000);
});

test.each([
  { reason: "CreateContainerConfigError", message: 'secret "data-key" not found', told: "CreateContainerConfigError" },
  { reason: "InvalidImageName", message: "couldn't parse image name", told: "ImageUnavailable" },
])("$reason is given up at once", async ({ reason, message, told }) => {
  await open();
  site.send(site.plan());
  await site.kubelet.pod(job);
  const startedMs = Date.now();
  await site.kubelet.waiting(job, { reason, message });
  expect(await failed()).toMatchObject({ reason: told });
  expect(Date.now() - startedMs).toBeLessThan(15_000);
});

test("a trainer that is preempted twice is none that has failed: its Job, which has one try more, goes on", async () => {
  await open();
  site.send(site.plan());
  for (let times = 0; times < 2; times++) {
    const pod = await site.kubelet.pod(job);
    await site.kubelet.run(job);
    await site.kubelet.preempt(job);
    // The Job controller takes its time between pods: 10 s, then 20 s.
    const isAnother = async () => (await site.kubelet.pod(job).catch(() => pod)).metadata.name !== pod.metadata.name;
    await site.until(isAnother, "another pod", 50_000);
  }
  await site.kubelet.run(job);
  expect(await (await site.trainer(job)).deliver(await site.adapter(() => 1.125))).toBe(204);
  await site.until(() => site.operator.coordinator.uploads.length > 0, "contributed");
  expect(site.failure()).toBeUndefined();
  await site.nothingLeft();
}, 120_000);

test("a pod template that the API server refuses is said in its words", async () => {
  await open();
  site.send(
    site.plan({
      training: {
        ...site.plan().training,
        resources: { gpus: 1, gpuResourceName: "nvidia.com/gpu", memory: "much", cpu: "1" },
      },
    }),
  );
  const { reason, message } = await failed();
  expect(reason).toBe("JobRejected");
  expect(message).toContain("quantit");
});

test("a Job that somebody deletes", async () => {
  await open();
  site.send(site.plan());
  await site.kubelet.run(job);
  await site.until(() => site.said.includes("Training"), "Training");
  await api.client.delete(JOBS, { namespace: site.namespace, name: job });
  expect(await failed()).toMatchObject({ reason: "JobDeleted" });
});

test("a cancelled round: Job and Secret go, and nothing more is said of it", async () => {
  await open();
  const plan = site.plan();
  site.send(plan);
  await site.kubelet.run(job);
  await site.until(() => site.said.includes("Training"), "Training");
  const trainer = await site.trainer(job);
  site.cancel(plan, "QuorumLost", "2 of 4 contributions arrived");
  await site.nothingLeft();
  expect((await trainer.call("GET", "/v1/task")).status).toBe(401);
  expect(site.failure()).toBeUndefined();
});

test.each([
  { says: "an image that the site does not run", policy: { images: ["ghcr.io/*"] }, reason: "ImageNotAllowed" },
  {
    says: "a federation that it does not know",
    policy: { federations: ["demo.rondo.dev/rondo/other"] },
    reason: "FederationNotAllowed",
  },
  { says: "more GPUs than it gives", policy: { gpus: { max: 0 } }, reason: "TooManyGpus" },
  { says: "too small a company", policy: { minParticipants: 5 }, reason: "TooFewParticipants" },
])("refused by policy: $says", async ({ policy, reason }) => {
  await open(policy);
  site.send(site.plan());
  expect(await failed()).toEqual({ reason, message: expect.stringMatching(/^policy: /) });
  expect(site.said).toEqual(["refuse"]);
});

test("a second, different plan for the same round, and a round that is too old", async () => {
  await open();
  site.send(site.plan({ round: 3, roundName: "notes-r3" }));
  await site.until(() => site.said.includes("accept"), "accepted");
  site.send(site.plan({ round: 3, roundName: "notes-r3", minimum: 1 }));
  site.send(site.plan({ round: 2, roundName: "notes-r2" }));
  await site.until(() => site.said.filter((word) => word === "refuse").length === 2, "two refusals");
  const refusals = site.reports.flatMap(({ kind, body }) =>
    kind === "refuse" ? [(body as { reason: string }).reason] : [],
  );
  expect(refusals).toEqual(["PlanChanged", "RoundTooOld"]);
});
