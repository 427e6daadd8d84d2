/** Status shapes as Kubernetes 1.36 writes them, shortened to the fields that are read. */
import { expect, test } from "vitest";
import type { CoreEvent, Job, Pod } from "../kube/resources.ts";
import { type JobObservation, observeJob } from "./observe-job.ts";

const job = (conditions: object[] = []) =>
  ({
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: { name: "r1-a-1" },
    status: { active: 1, conditions },
  }) as unknown as Job;

const pod = (status: object, createdAt = "2026-01-01T00:00:00Z") =>
  ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "r1-a-1-x7k2p", creationTimestamp: createdAt },
    spec: { containers: [{ name: "trainer", image: "registry.example/trainer:9" }] },
    status,
  }) as unknown as Pod;

const scheduled = { type: "PodScheduled", status: "True" };
const waiting = (reason: string, message = "") =>
  pod({
    phase: "Pending",
    conditions: [scheduled],
    containerStatuses: [
      { name: "trainer", image: "registry.example/trainer:9", state: { waiting: { reason, message } } },
    ],
  });
const ended = (terminated: object, more: object = {}) =>
  pod({ phase: "Failed", containerStatuses: [{ name: "trainer", state: { terminated } }], ...more });
const backoff = {
  type: "Failed",
  status: "True",
  reason: "BackoffLimitExceeded",
  message: "Job has reached the specified backoff limit",
};
const policy = {
  type: "Failed",
  status: "True",
  reason: "PodFailurePolicy",
  message: "Container trainer for pod failed with exit code 65",
};
const unschedulable = pod({
  phase: "Pending",
  conditions: [
    {
      type: "PodScheduled",
      status: "False",
      reason: "Unschedulable",
      message: "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: 0/1 nodes are available.",
    },
  ],
});
const event = (reason: string, message: string) =>
  ({ reason, message, lastTimestamp: "2026-01-01T00:00:01Z" }) as unknown as CoreEvent;

const table: Array<{ says: string; job?: Job; pods?: Pod[]; events?: CoreEvent[]; is: Partial<JobObservation> }> = [
  { says: "no Job", is: { state: "Missing", reason: "JobMissing" } },
  { says: "a Job without a pod", job: job(), is: { state: "Scheduling", reason: "PodPending", message: "" } },
  {
    says: "a Job whose pod a quota forbids",
    job: job(),
    events: [event("FailedCreate", 'pods "r1-a-1-" is forbidden: exceeded quota: gpus')],
    is: {
      state: "Scheduling",
      reason: "PodRefused",
      message: 'the trainer\'s pod cannot be created: pods "r1-a-1-" is forbidden: exceeded quota: gpus',
    },
  },
  {
    says: "a Job that a queue holds",
    job: job([{ type: "Suspended", status: "True", reason: "JobSuspended" }]),
    is: { state: "Scheduling", reason: "Suspended" },
  },
  {
    says: "no GPU free",
    job: job(),
    pods: [unschedulable],
    is: {
      state: "Scheduling",
      reason: "Unschedulable",
      message: "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: 0/1 nodes are available.",
    },
  },
  ...(["ErrImagePull", "ImagePullBackOff"] as const).map((reason) => ({
    says: `${reason}`,
    job: job(),
    pods: [waiting(reason, "Back-off pulling image")],
    is: {
      state: "Scheduling",
      reason: "ImageUnavailable",
      hopeless: "soon",
      message: `image registry.example/trainer:9 cannot be pulled (${reason})`,
    } as const,
  })),
  {
    says: "a name that is no image",
    job: job(),
    pods: [waiting("InvalidImageName")],
    is: {
      reason: "ImageUnavailable",
      hopeless: "now",
      message: "image registry.example/trainer:9 has a name that is not valid (InvalidImageName)",
    },
  },
  {
    says: "a container that cannot be configured",
    job: job(),
    pods: [waiting("CreateContainerConfigError", 'configmap "x" not found')],
    is: {
      reason: "CreateContainerConfigError",
      hopeless: "now",
      message:
        'the trainer\'s container cannot be configured (image registry.example/trainer:9): configmap "x" not found',
    },
  },
  {
    says: "a node that is in trouble itself while it configures a container",
    job: job(),
    pods: [
      waiting("CreateContainerConfigError", "failed to sync configmap cache: timed out waiting for the condition"),
    ],
    is: { reason: "CreateContainerConfigError", hopeless: "soon" },
  },
  {
    says: "a container that the runtime does not make",
    job: job(),
    pods: [waiting("CreateContainerError", "failed to reserve container name")],
    is: { reason: "CreateContainerError", hopeless: "soon" },
  },
  {
    says: "an image that may not be pulled",
    job: job(),
    pods: [waiting("ErrImageNeverPull")],
    is: { reason: "ImageUnavailable", hopeless: "now" },
  },
  {
    says: "a container being made",
    job: job(),
    pods: [waiting("ContainerCreating")],
    is: { state: "Scheduling", reason: "ContainerCreating" },
  },
  {
    says: "a volume that does not mount",
    job: job(),
    pods: [waiting("ContainerCreating")],
    events: [event("FailedMount", 'MountVolume.SetUp failed for volume "data"')],
    is: {
      reason: "VolumeUnavailable",
      message: 'a volume cannot be mounted: MountVolume.SetUp failed for volume "data"',
    },
  },
  {
    says: "a running trainer",
    job: job(),
    pods: [
      pod({
        phase: "Running",
        conditions: [scheduled],
        containerStatuses: [{ name: "trainer", state: { running: {} } }],
      }),
    ],
    is: { state: "Running", message: "" },
  },
  {
    says: "a finished Job",
    job: job([
      { type: "SuccessCriteriaMet", status: "True" },
      { type: "Complete", status: "True" },
    ]),
    is: { state: "Succeeded", exitCode: 0 },
  },
  {
    says: "a wrong data file",
    job: job([policy]),
    pods: [ended({ exitCode: 65, reason: "Error", message: "line 7: secret words" })],
    is: {
      state: "Failed",
      reason: "DataMalformed",
      exitCode: 65,
      message: "the training data is empty or malformed; the trainer's log at the site names the line (exit code 65)",
      trainerError: "line 7: secret words",
    },
  },
  {
    says: "a base model of another digest",
    job: job([policy]),
    pods: [ended({ exitCode: 69 })],
    is: { reason: "BaseModelDigestMismatch", exitCode: 69 },
  },
  {
    says: "an unknown code of the trainer's own",
    job: job([policy]),
    pods: [ended({ exitCode: 72 })],
    is: { reason: "TaskRefused", exitCode: 72 },
  },
  {
    says: "a crash",
    job: job([backoff]),
    pods: [ended({ exitCode: 139, reason: "Error" })],
    is: {
      state: "Failed",
      reason: "TrainerCrashed",
      message: "the trainer ended with exit code 139, signal 11; its log at the site says why",
    },
  },
  {
    says: "out of memory",
    job: job([backoff]),
    pods: [ended({ exitCode: 137, reason: "OOMKilled" })],
    is: { reason: "OutOfMemory", exitCode: 137 },
  },
  {
    says: "a command that is not in the image",
    job: job([backoff]),
    pods: [ended({ exitCode: 128, reason: "StartError", message: "exec: python: not found" })],
    is: { reason: "CannotStart", exitCode: 128 },
  },
  {
    says: "a command that is not in the image, while the Job would try again",
    job: job(),
    pods: [
      ended({
        exitCode: 128,
        reason: "StartError",
        message:
          'failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: "trian": executable file not found in $PATH',
      }),
    ],
    is: {
      state: "Scheduling",
      reason: "CannotStart",
      hopeless: "now",
      message:
        'the trainer\'s command cannot be run in its image (registry.example/trainer:9): exec: "trian": executable file not found in $PATH',
    },
  },
  {
    says: "a container that could not be started because its runtime went away",
    job: job(),
    pods: [ended({ exitCode: 128, reason: "StartError", message: "failed to create shim task: ttrpc: closed" })],
    is: { state: "Scheduling", reason: "Restarting" },
  },
  {
    says: "a pod that is gone: the Job knows its exit code",
    job: job([policy]),
    is: { state: "Failed", reason: "DataMalformed", exitCode: 65 },
  },
  {
    says: "an init container of the site that fails",
    job: job([backoff]),
    pods: [
      pod({ phase: "Failed", initContainerStatuses: [{ name: "fetch-data", state: { terminated: { exitCode: 3 } } }] }),
    ],
    is: {
      reason: "PodFailed",
      message: "init container fetch-data of the site's pod template ended with exit code 3",
    },
  },
  {
    says: "a pod that the scheduler took back for another",
    job: job(),
    pods: [
      ended(
        { exitCode: 143 },
        {
          conditions: [
            { type: "DisruptionTarget", status: "True", reason: "PreemptionByScheduler", message: "preempting" },
          ],
        },
      ),
    ],
    is: {
      state: "Scheduling",
      reason: "Restarting",
      message: "an earlier try failed: the trainer's pod was evicted: preempting",
    },
  },
  {
    says: "a trainer that never ends",
    job: job([
      {
        type: "Failed",
        status: "True",
        reason: "DeadlineExceeded",
        message: "Job was active longer than specified deadline",
      },
    ]),
    is: {
      state: "Failed",
      reason: "DeadlineExceeded",
      message: "the trainer did not end by its deadline and was stopped",
    },
  },
  {
    says: "a Job whose pod was unschedulable until its deadline",
    job: job([{ type: "Failed", status: "True", reason: "DeadlineExceeded" }]),
    pods: [unschedulable],
    is: { state: "Failed", reason: "Unschedulable" },
  },
  {
    says: "an eviction that ended the Job",
    job: job([backoff]),
    pods: [pod({ phase: "Failed", reason: "Evicted", message: "The node was low on resource: memory." })],
    is: { state: "Failed", reason: "Evicted", message: "The node was low on resource: memory." },
  },
  {
    says: "a drained node",
    job: job([backoff]),
    pods: [
      ended(
        { exitCode: 143 },
        {
          conditions: [
            {
              type: "DisruptionTarget",
              status: "True",
              reason: "EvictionByEvictionAPI",
              message: "Eviction API: evicting",
            },
          ],
        },
      ),
    ],
    is: { reason: "Evicted", message: "the trainer's pod was evicted: Eviction API: evicting" },
  },
  {
    says: "a first pod that failed while the Job has a second to try",
    job: job(),
    pods: [ended({ exitCode: 1 })],
    is: { state: "Scheduling", reason: "Restarting" },
  },
  {
    says: "the second pod running after the first failed",
    job: job(),
    pods: [
      ended({ exitCode: 1 }),
      pod(
        { phase: "Running", containerStatuses: [{ name: "trainer", state: { running: {} } }] },
        "2026-01-01T00:01:00Z",
      ),
    ],
    is: { state: "Running" },
  },
];

test.each(table)("$says", ({ job, pods = [], events, is }) => {
  expect(observeJob(job, pods, events)).toMatchObject(is);
});

test("a message never says what the trainer wrote, and has at most 256 characters on one line", () => {
  const seen = observeJob(job([policy]), [ended({ exitCode: 65, message: `patient X\n${"y".repeat(4000)}` })]);
  expect(seen.message).not.toContain("patient");
  const long = observeJob(job(), [waiting("CreateContainerError", "a\nb ".repeat(400))]);
  expect(long.message.length).toBeLessThanOrEqual(256);
  expect(long.message).not.toContain("\n");
});
