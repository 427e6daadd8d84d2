/**
 * Trainer Jobs of this participant in the agent's own cluster: create, watch, delete.
 * Holds: names are deterministic, so that creating again finds what is there; a Secret goes with its Job, and both go with the agent's
 * Service when the site uninstalls; a Job that no living assignment knows is deleted by sweep(). Names come from the coordinator: a Job of
 * the site's own that bears one is neither used nor deleted.
 * Does not: decide when (assignment.ts). Needs of its Role: jobs and pods get, list, watch; jobs create, delete; secrets create,
 * delete; services get; events list, create, patch.
 */
import type { Logger } from "pino";
import { WatchCache } from "../kube/cache.ts";
import type { KubeClient } from "../kube/client.ts";
import type { EventRecorder } from "../kube/events.ts";
import { isKubeFault } from "../kube/faults.ts";
import type { KubeMetrics } from "../kube/metrics.ts";
import type { OwnerReference } from "../kube/objects.ts";
import { CORE_EVENTS, type CoreEvent, JOBS, type Job, PODS, type Pod, SECRETS } from "../kube/resources.ts";
import { buildTrainerJob, MANAGED_BY, type TrainerJobOptions, taskSecretName } from "../trainer/job.ts";
import { type JobObservation, observeJob, sentence } from "../trainer/observe-job.ts";
import { writeTaskSecret } from "../trainer/task-secret.ts";

const JOB_NAME = "batch.kubernetes.io/job-name";
const PARTICIPANT = "rondo.dev/participant";
/** A pod is usually running by then; only one that is not makes us ask for events. */
const EVENTS_AFTER_MS = 3_000;

/** A Job that will not exist however often it is asked for. */
export class JobFault extends Error {
  override readonly name = "JobFault";
  readonly reason: "JobRejected" | "JobConflict";
  constructor(reason: JobFault["reason"], message: string) {
    super(message);
    this.reason = reason;
  }
}

export type EnsureJob = Omit<TrainerJobOptions, "namespace" | "owner">;

/** What the assignments need of it; tests of the state machine implement it in memory. */
export interface TrainerJobs {
  /** Creates Secret and Job, or finds them. @throws JobFault; a KubeFault may pass by itself */
  ensure(options: EnsureJob): Promise<void>;
  look(name: string): Promise<JobObservation>;
  /** Job, pods and Secret; not there: nothing happens. */
  remove(name: string): Promise<void>;
  /** The trainer's own last words, for the site's people only. */
  note(name: string, reason: string, text: string): void;
}

export interface ClusterJobsOptions {
  client: KubeClient;
  namespace: string;
  participant: string;
  /** The agent's Service: what is left goes with it at uninstall. */
  owner?: OwnerReference;
  recorder: EventRecorder;
  log: Logger;
  metrics?: KubeMetrics;
  now?: () => number;
}

export class ClusterJobs implements TrainerJobs {
  readonly #options: ClusterJobsOptions;
  readonly #jobs: WatchCache<Job>;
  readonly #pods: WatchCache<Pod>;

  constructor(options: ClusterJobsOptions) {
    this.#options = options;
    const { client, namespace, participant, log, metrics } = options;
    const labelSelector = `app.kubernetes.io/managed-by=${MANAGED_BY["app.kubernetes.io/managed-by"]},${PARTICIPANT}=${participant}`;
    const watched = { client, namespace, labelSelector, log, ...(metrics ? { metrics } : {}) };
    this.#jobs = new WatchCache({ ...watched, kind: JOBS });
    this.#pods = new WatchCache({ ...watched, kind: PODS });
  }

  get caches() {
    return [this.#jobs, this.#pods] as const;
  }

  /** Resolves when both caches have their first list. */
  async start(): Promise<void> {
    this.#jobs.start();
    this.#pods.start();
    await Promise.all([this.#jobs.whenSynced(), this.#pods.whenSynced()]);
  }

  async stop(): Promise<void> {
    await Promise.all([this.#jobs.stop(), this.#pods.stop()]);
  }

  /** @param handler  gets the name of the Job that something happened to */
  onChange(handler: (jobName: string) => void): void {
    this.#jobs.onChange((key) => handler(key.slice(key.indexOf("/") + 1)));
    this.#pods.onChange((_key, pod) => {
      const name = pod?.metadata.labels?.[JOB_NAME];
      if (name) handler(name);
    });
  }

  async ensure(options: EnsureJob): Promise<void> {
    const { client, namespace, owner } = this.#options;
    const { job, secret } = buildTrainerJob({ ...options, namespace, ...(owner ? { owner } : {}) });
    const made = await this.#createOrFind(job);
    await writeTaskSecret(client, secret, made);
    this.#jobs.put(made);
  }

  async #createOrFind(job: Job): Promise<Job> {
    const { client } = this.#options;
    try {
      return await client.create(JOBS, job);
    } catch (error) {
      if (isKubeFault(error, "Invalid", "BadRequest")) {
        throw new JobFault(
          "JobRejected",
          sentence(`the site's API server refuses the trainer's Job: ${error.message}`, ""),
        );
      }
      if (!isKubeFault(error, "AlreadyExists")) throw error;
    }
    const found = await client.get(JOBS, job.metadata);
    if (!found || found.metadata.deletionTimestamp)
      throw new Error(`Job ${job.metadata.name} is being deleted; try again`);
    const differs = Object.entries(job.metadata.labels ?? {}).some(
      ([name, value]) => found.metadata.labels?.[name] !== value,
    );
    if (differs)
      throw new JobFault("JobConflict", `the site already has a Job ${job.metadata.name} that is not this agent's`);
    return found;
  }

  async look(name: string): Promise<JobObservation> {
    const { client, namespace } = this.#options;
    // The cache may not have heard of a Job yet, or of one that was deleted and made again: a Job is missing only when the API server says so.
    const job = this.#jobs.get({ namespace, name }) ?? (await client.get(JOBS, { namespace, name }));
    const pods = await this.#podsOf(name, job);
    const seen = observeJob(job, pods);
    if (!job || seen.state !== "Scheduling" || seen.message !== "" || !this.#isOld(job)) return seen;
    return observeJob(job, pods, await this.#events([name, ...pods.map((pod) => pod.metadata.name)]));
  }

  /** The Job's end can come before that of its pod, whose watch is another one; and the pod says why. */
  async #podsOf(name: string, job: Job | undefined): Promise<Pod[]> {
    const { client, namespace } = this.#options;
    const pods = this.#pods.list((pod) => pod.metadata.labels?.[JOB_NAME] === name);
    const isFailed = job?.status?.conditions?.some(
      ({ type, status }) => (type === "Failed" || type === "FailureTarget") && status === "True",
    );
    if (!isFailed || pods.some(({ status }) => status?.phase === "Failed")) return pods;
    return (await client.list(PODS, { namespace, labelSelector: `${JOB_NAME}=${name}` })).items;
  }

  async remove(name: string): Promise<void> {
    const { client, namespace } = this.#options;
    const job = await client.get(JOBS, { namespace, name });
    if (job && !this.#isOurs(job)) return;
    const uid = job?.metadata.uid;
    if (uid) await client.delete(JOBS, { namespace, name }, { preconditions: { uid } });
    await client.delete(SECRETS, { namespace, name: taskSecretName(name) });
  }

  note(name: string, reason: string, text: string): void {
    const { namespace, recorder } = this.#options;
    const job = this.#jobs.get({ namespace, name }) ?? {
      apiVersion: "batch/v1",
      kind: "Job",
      metadata: { namespace, name },
    };
    recorder.record(job, { type: "Warning", reason, note: lastLineFirst(text) });
  }

  /** Deletes this participant's Jobs whose names are not in `living`: what a lost ledger or a crash left behind. */
  async sweep(living: ReadonlySet<string>): Promise<string[]> {
    const strangers = this.#jobs.list((job) => !living.has(job.metadata.name) && !job.metadata.deletionTimestamp);
    for (const { metadata } of strangers) await this.remove(metadata.name);
    return strangers.map(({ metadata }) => metadata.name);
  }

  #isOurs({ metadata: { labels } }: Job): boolean {
    const isRondos = Object.entries(MANAGED_BY).every(([name, value]) => labels?.[name] === value);
    return isRondos && labels?.[PARTICIPANT] === this.#options.participant;
  }

  #isOld(job: Job): boolean {
    const nowMs = (this.#options.now ?? Date.now)();
    return nowMs - Date.parse(job.metadata.creationTimestamp ?? "") >= EVENTS_AFTER_MS;
  }

  /** Quota, admission and volumes speak only through events. */
  async #events(names: string[]): Promise<CoreEvent[]> {
    const { client, namespace, log } = this.#options;
    try {
      const lists = await Promise.all(
        names.map((name) => client.list(CORE_EVENTS, { namespace, fieldSelector: `involvedObject.name=${name}` })),
      );
      return lists.flatMap(({ items }) => items);
    } catch (error) {
      log.warn({ err: error }, "events of a trainer not read");
      return [];
    }
  }
}

/** `kubectl get events` shows the first line only, and a program's last one says why it ended. */
export function lastLineFirst(text: string): string {
  const lines = text.split("\n").filter((line) => line.trim());
  return [...lines.slice(-1), ...lines.slice(0, -1)].join("\n");
}
