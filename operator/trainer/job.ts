/**
 * The trainer's Job and the Secret that lets it fetch its task: made from the site's own pod template, into which only
 * image, resources and task are filled (trainer.md "What the site owns").
 * Holds: the pod passes the restricted Pod Security profile whatever the template says about the trainer's container; it gets no
 * service account token, no environment of other Services and no way to reach a model hub.
 * Does not: ask whether the site wants it (agent/policy.ts), nor write anything (agent/jobs.ts, controllers).
 */
import type { OwnerReference } from "../kube/objects.ts";
import type { Job, Secret } from "../kube/resources.ts";
import { NO_RETRY_FIRST, NO_RETRY_LAST } from "./exits.ts";
import { type TaskKind, taskPaths } from "./task.ts";

type PodSpec = NonNullable<NonNullable<Job["spec"]>["template"]["spec"]>;
type Container = PodSpec["containers"][number];
/** A site's PodTemplateSpec: opaque but for what the Job adds to it. */
export interface PodTemplate {
  metadata?: { labels?: Record<string, string>; annotations?: Record<string, string> };
  spec?: Partial<PodSpec>;
}

export const TRAINER_CONTAINER = "trainer";
export const MANAGED_BY = { "app.kubernetes.io/managed-by": "rondo" } as const;
const FEDERATION_ANNOTATION = "rondo.dev/federation-id";

/** One try more for what may pass (a node's hiccup, a killed process); the round's deadline bounds both. */
const BACKOFF_LIMIT = 1;
/** The owner deletes its Jobs; this is for those whose owner never comes back. */
const TTL_SECONDS = 3600;
/** An unprivileged user for images that name none in digits, which `runAsNonRoot` refuses. */
const DEFAULT_USER = 10_001;

export interface TrainerJobOptions {
  /** metadata.name of the Job, at most 63 characters; the Secret is `<name>-task`. */
  name: string;
  namespace: string;
  template: PodTemplate;
  image: string;
  resources: { gpus: number; gpuResourceName: string; memory: string; cpu: string };
  task: { url: string; caPem: string; token: string };
  labels: TrainerLabels;
  owner?: OwnerReference;
  /** From the Job's start; at least 1. */
  activeDeadlineSeconds: number;
}

export interface TrainerLabels {
  /** metadata.name of the Federation, or its whole identity `<trust domain>/<namespace>/<name>`. */
  federation: string;
  /** metadata.name of the FederationRound; absent where there is none. */
  round?: string;
  participant?: string;
  attempt: number;
  kind: TaskKind;
}

/** @returns manifests to be created in this order: the Job, then the Secret, which names it as owner (task-secret.ts). */
export function buildTrainerJob(options: TrainerJobOptions): { job: Job; secret: Secret } {
  const labels = jobLabels(options.labels);
  const annotations = { [FEDERATION_ANNOTATION]: options.labels.federation };
  const owners = options.owner ? { ownerReferences: [options.owner] } : {};
  const metadata = { namespace: options.namespace, labels, annotations, ...owners };
  const secret: Secret = {
    apiVersion: "v1",
    kind: "Secret",
    metadata: { ...metadata, name: taskSecretName(options.name) },
    type: "Opaque",
    data: { "ca.crt": base64(options.task.caPem), token: base64(options.task.token) },
  };
  const job: Job = {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: { ...metadata, name: options.name },
    spec: {
      backoffLimit: BACKOFF_LIMIT,
      activeDeadlineSeconds: Math.max(1, Math.ceil(options.activeDeadlineSeconds)),
      ttlSecondsAfterFinished: TTL_SECONDS,
      // A second pod only when the first is gone: two at once would need the GPUs twice.
      podReplacementPolicy: "Failed",
      podFailurePolicy: {
        rules: [
          {
            action: "FailJob",
            onExitCodes: {
              containerName: TRAINER_CONTAINER,
              operator: "In",
              values: Array.from({ length: NO_RETRY_LAST - NO_RETRY_FIRST + 1 }, (_, index) => NO_RETRY_FIRST + index),
            },
          },
          { action: "Ignore", onPodConditions: [{ type: "DisruptionTarget", status: "True" }] },
        ],
      },
      template: podTemplate(options, labels),
    },
  };
  return { job, secret };
}

export function taskSecretName(jobName: string): string {
  return `${jobName}-task`;
}

/** `<round>-<participant>-<attempt>`: a retry finds its own work. */
export function trainerJobName(round: string, participant: string, attempt: number): string {
  return `${round}-${participant}-${attempt}`;
}

/** The owner reference that lets the Secret go with its Job. */
export function ownedByJob(job: Job): OwnerReference {
  if (!job.metadata.uid)
    throw new TypeError(`Job ${job.metadata.name} has no uid: it was not read from the API server`);
  return { apiVersion: "batch/v1", kind: "Job", name: job.metadata.name, uid: job.metadata.uid };
}

function jobLabels(labels: TrainerLabels): Record<string, string> {
  return {
    ...MANAGED_BY,
    "rondo.dev/federation": labels.federation.split("/").at(-1) ?? labels.federation,
    ...(labels.round ? { "rondo.dev/round": labels.round } : {}),
    ...(labels.participant ? { "rondo.dev/participant": labels.participant } : {}),
    "rondo.dev/attempt": String(labels.attempt),
    "rondo.dev/kind": labels.kind,
  };
}

function podTemplate(options: TrainerJobOptions, labels: Record<string, string>): NonNullable<Job["spec"]>["template"] {
  const site = structuredClone(options.template);
  const spec = site.spec ?? {};
  const containers = spec.containers ?? [];
  const found = containers.find((container) => container.name === TRAINER_CONTAINER);
  const trainer = trainerContainer(found ?? { name: TRAINER_CONTAINER }, options);
  const volumes = [...(spec.volumes ?? [])];
  for (const volume of [
    { name: "rondo-task", secret: { secretName: taskSecretName(options.name), defaultMode: 0o440 } },
    { name: "rondo-out", emptyDir: {} },
    { name: "rondo-tmp", emptyDir: {} },
  ]) {
    if (trainer.volumeMounts?.some((mount) => mount.name === volume.name)) volumes.push(volume);
  }
  return {
    ...site,
    metadata: { ...site.metadata, labels: { ...site.metadata?.labels, ...labels } },
    spec: {
      ...spec,
      restartPolicy: "Never",
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      securityContext: {
        runAsUser: DEFAULT_USER,
        runAsGroup: DEFAULT_USER,
        fsGroup: DEFAULT_USER,
        fsGroupChangePolicy: "OnRootMismatch",
        ...spec.securityContext,
        runAsNonRoot: true,
        seccompProfile: spec.securityContext?.seccompProfile ?? { type: "RuntimeDefault" },
      },
      containers: found
        ? containers.map((container) => (container === found ? trainer : container))
        : [trainer, ...containers],
      volumes,
    },
  };
}

function trainerContainer(site: Container, options: TrainerJobOptions): Container {
  const env = {
    RONDO_TASK_URL: options.task.url,
    RONDO_TASK_CA: taskPaths.ca,
    RONDO_TASK_TOKEN_FILE: taskPaths.token,
    HF_HUB_OFFLINE: "1",
    TRANSFORMERS_OFFLINE: "1",
  };
  const defaults = { HOME: "/tmp", HF_HOME: "/tmp/huggingface" };
  const siteEnv = (site.env ?? []).filter((entry) => !(entry.name in env));
  const missing = Object.entries(defaults).filter(([name]) => !siteEnv.some((entry) => entry.name === name));
  return {
    ...site,
    image: options.image,
    // The last lines of a crashed trainer land in the pod's status at the site, so that the agent needs no right to read logs.
    terminationMessagePolicy: "FallbackToLogsOnError",
    env: [
      ...siteEnv,
      ...missing.map(([name, value]) => ({ name, value })),
      ...Object.entries(env).map(([name, value]) => ({ name, value })),
    ],
    resources: resources(site, options.resources),
    volumeMounts: volumeMounts(site),
    securityContext: {
      ...site.securityContext,
      allowPrivilegeEscalation: false,
      privileged: false,
      readOnlyRootFilesystem: true,
      runAsNonRoot: true,
      capabilities: { drop: ["ALL"] },
    },
  };
}

function volumeMounts(site: Container): Container["volumeMounts"] {
  const mounts = (site.volumeMounts ?? []).filter((mount) => mount.mountPath !== "/rondo/task");
  const ours = [
    { name: "rondo-task", mountPath: "/rondo/task", readOnly: true },
    { name: "rondo-out", mountPath: taskPaths.out },
    { name: "rondo-tmp", mountPath: "/tmp" },
  ];
  return [...mounts, ...ours.filter((mount) => !mounts.some((site) => site.mountPath === mount.mountPath))];
}

/**
 * GPUs come from the plan, request = limit as the scheduler demands. What the site's template says of CPU and memory stands; blanks are filled
 * from the plan: memory whole (request = limit), CPU only as a request, for a limit would throttle the data loader.
 */
function resources(site: Container, wish: TrainerJobOptions["resources"]): Container["resources"] {
  const { requests, limits } = site.resources ?? {};
  const gpus: Record<string, string> = wish.gpus > 0 ? { [wish.gpuResourceName]: String(wish.gpus) } : {};
  return {
    ...site.resources,
    requests: {
      ...requests,
      cpu: requests?.cpu ?? limits?.cpu ?? wish.cpu,
      memory: requests?.memory ?? limits?.memory ?? wish.memory,
      ...gpus,
    },
    limits: { ...limits, memory: limits?.memory ?? requests?.memory ?? wish.memory, ...gpus },
  };
}

function base64(text: string): string {
  return Buffer.from(text, "utf8").toString("base64");
}
