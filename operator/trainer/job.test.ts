import { expect, test } from "vitest";
import { buildTrainerJob, ownedByJob, type TrainerJobOptions, trainerJobName } from "./job.ts";

const options: TrainerJobOptions = {
  name: "clinic-notes-r9-clinic-a-1",
  namespace: "site",
  template: {
    metadata: { labels: { "kueue.x-k8s.io/queue-name": "gpus" } },
    spec: {
      nodeSelector: { pool: "gpu" },
      serviceAccountName: "trainers",
      containers: [
        {
          name: "trainer",
          command: ["/opt/rondo/venv/bin/python", "-m", "rondo_trainer"],
          env: [
            { name: "PYTHONPATH", value: "/opt/rondo/trainer" },
            { name: "RONDO_TASK_URL", value: "https://elsewhere" },
          ],
          volumeMounts: [{ name: "model", mountPath: "/rondo/model", readOnly: true }],
          securityContext: { privileged: true, capabilities: { add: ["SYS_ADMIN"] } },
        },
        { name: "sidecar", image: "proxy:1" },
      ],
      volumes: [{ name: "model", persistentVolumeClaim: { claimName: "model" } }],
    },
  },
  image: "registry.example/trainer@sha256:abc",
  resources: { gpus: 2, gpuResourceName: "nvidia.com/gpu", memory: "16Gi", cpu: "4" },
  task: { url: "https://10.96.0.7:8445", caPem: "CA", token: "secret-token" },
  labels: {
    federation: "example.org/fl/clinic-notes",
    round: "clinic-notes-r9",
    participant: "clinic-a",
    attempt: 1,
    kind: "train",
  },
  activeDeadlineSeconds: 12.2,
};

const build = (change: Partial<TrainerJobOptions> = {}) => {
  const { job, secret } = buildTrainerJob({ ...options, ...change });
  const pod = job.spec!.template.spec!;
  return { job, secret, pod, trainer: pod.containers.find(({ name }) => name === "trainer")! };
};

test("the Job's name is the round's, the participant's and the attempt's, so that a retry finds its own work", () => {
  expect(trainerJobName("clinic-notes-r9", "clinic-a", 1)).toBe("clinic-notes-r9-clinic-a-1");
});

test("the site's template stays: volumes, node selector, service account, queue, command and sidecar", () => {
  const { job, pod, trainer } = build();
  expect(job.spec!.template.metadata!.labels).toMatchObject({ "kueue.x-k8s.io/queue-name": "gpus" });
  expect(pod).toMatchObject({ nodeSelector: { pool: "gpu" }, serviceAccountName: "trainers" });
  expect(pod.volumes!.map(({ name }) => name)).toEqual(["model", "rondo-task", "rondo-out", "rondo-tmp"]);
  expect(pod.containers.map(({ name }) => name)).toEqual(["trainer", "sidecar"]);
  expect(trainer.command).toEqual(["/opt/rondo/venv/bin/python", "-m", "rondo_trainer"]);
  expect(trainer.volumeMounts).toContainEqual({ name: "model", mountPath: "/rondo/model", readOnly: true });
});

test("image and task come from the plan, and a template cannot point the trainer at another task server", () => {
  const { trainer } = build();
  expect(trainer.image).toBe("registry.example/trainer@sha256:abc");
  const env = Object.fromEntries(trainer.env!.map(({ name, value }) => [name, value]));
  expect(env).toMatchObject({
    PYTHONPATH: "/opt/rondo/trainer",
    RONDO_TASK_URL: "https://10.96.0.7:8445",
    RONDO_TASK_CA: "/rondo/task/ca.crt",
    RONDO_TASK_TOKEN_FILE: "/rondo/task/token",
    HF_HUB_OFFLINE: "1",
  });
  expect(trainer.env!.filter(({ name }) => name === "RONDO_TASK_URL")).toHaveLength(1);
});

test("the trainer's container is restricted whatever the template says", () => {
  const { pod, trainer } = build();
  expect(trainer.securityContext).toEqual({
    allowPrivilegeEscalation: false,
    privileged: false,
    readOnlyRootFilesystem: true,
    runAsNonRoot: true,
    capabilities: { drop: ["ALL"] },
  });
  expect(pod.securityContext).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } });
  expect(pod).toMatchObject({ automountServiceAccountToken: false, enableServiceLinks: false, restartPolicy: "Never" });
});

test.each([
  {
    says: "blanks are filled from the plan, GPUs and memory whole",
    site: undefined,
    requests: { cpu: "4", memory: "16Gi", "nvidia.com/gpu": "2" },
    limits: { memory: "16Gi", "nvidia.com/gpu": "2" },
  },
  {
    says: "what the site says of CPU and memory stands",
    site: { requests: { cpu: "500m" }, limits: { cpu: "1", memory: "2Gi", "example.com/nic": "1" } },
    requests: { cpu: "500m", memory: "2Gi", "nvidia.com/gpu": "2" },
    limits: { cpu: "1", memory: "2Gi", "example.com/nic": "1", "nvidia.com/gpu": "2" },
  },
  {
    says: "a limit that stands alone is the request too",
    site: { limits: { cpu: "1" } },
    requests: { cpu: "1", memory: "16Gi", "nvidia.com/gpu": "2" },
    limits: { cpu: "1", memory: "16Gi", "nvidia.com/gpu": "2" },
  },
])("resources: $says", ({ site, requests, limits }) => {
  const resources = site as Record<string, Record<string, string>> | undefined;
  const template = { spec: { containers: [{ name: "trainer", ...(resources ? { resources } : {}) }] } };
  const { trainer } = build({ template });
  expect(trainer.resources!.requests).toEqual(requests);
  expect(trainer.resources!.limits).toEqual(limits);
});

test("no GPU asked for, none claimed", () => {
  const { trainer } = build({ template: {}, resources: { ...options.resources, gpus: 0 } });
  expect(trainer.resources!.limits).toEqual({ memory: "16Gi" });
});

test("an empty template becomes a pod with the trainer alone", () => {
  const { pod } = build({ template: {} });
  expect(pod.containers.map(({ name }) => name)).toEqual(["trainer"]);
});

test("a wrong task or wrong data is not tried again, an eviction does not count, and the Job ends by its deadline", () => {
  const { job } = build();
  expect(job.spec).toMatchObject({
    backoffLimit: 1,
    activeDeadlineSeconds: 13,
    podFailurePolicy: {
      rules: [
        { action: "FailJob", onExitCodes: { containerName: "trainer", operator: "In" } },
        { action: "Ignore", onPodConditions: [{ type: "DisruptionTarget", status: "True" }] },
      ],
    },
  });
  const values = job.spec!.podFailurePolicy!.rules[0]!.onExitCodes!.values;
  expect([values[0], values.at(-1), values.length]).toEqual([64, 78, 15]);
});

test("the Secret holds CA and token, lies beside the Job and is given to it", () => {
  const { job, secret } = build();
  expect(secret.metadata.name).toBe("clinic-notes-r9-clinic-a-1-task");
  expect(Buffer.from(secret.data!.token!, "base64").toString()).toBe("secret-token");
  expect(JSON.stringify(job)).not.toContain("secret-token");
  const made = { ...job, metadata: { ...job.metadata, uid: "u1" } };
  expect(ownedByJob(made)).toEqual({ apiVersion: "batch/v1", kind: "Job", name: job.metadata.name, uid: "u1" });
});

test("Job, Secret and pod carry the labels that a sweep looks for", () => {
  const { job, secret } = build();
  const labels = {
    "app.kubernetes.io/managed-by": "rondo",
    "rondo.dev/federation": "clinic-notes",
    "rondo.dev/round": "clinic-notes-r9",
    "rondo.dev/participant": "clinic-a",
    "rondo.dev/attempt": "1",
    "rondo.dev/kind": "train",
  };
  expect(job.metadata.labels).toEqual(labels);
  expect(secret.metadata.labels).toEqual(labels);
  expect(job.spec!.template.metadata!.labels).toMatchObject(labels);
});
