/**
 * The test as scheduler and kubelet: it sets what they would set in the status of a Job's pods, in the shapes that Kubernetes 1.36 writes.
 * It stands for the node alone: the API server and the Job controller are real. Real pods run in test/e2e.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { KubeClient } from "../../../operator/kube/client.ts";
import { JOBS, type Job, PODS, type Pod, SECRETS } from "../../../operator/kube/resources.ts";

const scheduled = { type: "PodScheduled", status: "True", lastTransitionTime: new Date().toISOString() };

export class TestKubelet {
  readonly #client: KubeClient;
  readonly #namespace: string;

  constructor(client: KubeClient, namespace: string) {
    this.#client = client;
    this.#namespace = namespace;
  }

  async jobs(): Promise<Job[]> {
    return (await this.#client.list(JOBS, { namespace: this.#namespace })).items;
  }

  async secretNames(): Promise<string[]> {
    const { items } = await this.#client.list(SECRETS, { namespace: this.#namespace });
    return items.map(({ metadata }) => metadata.name).filter((name) => name.endsWith("-task"));
  }

  /** The newest pod that the Job controller made for this Job; waits for it. */
  async pod(job: string): Promise<Pod> {
    const labelSelector = `batch.kubernetes.io/job-name=${job}`;
    for (let tries = 0; tries < 200; tries++) {
      const { items } = await this.#client.list(PODS, { namespace: this.#namespace, labelSelector });
      const living = items.filter(({ status }) => status?.phase === "Pending" || status?.phase === "Running");
      if (living[0]) return living[0];
      await sleep(100);
    }
    throw new Error(`Job ${job} got no pod`);
  }

  async pods(): Promise<Pod[]> {
    return (await this.#client.list(PODS, { namespace: this.#namespace })).items;
  }

  async run(job: string): Promise<void> {
    await this.#set(job, {
      phase: "Running",
      conditions: [scheduled],
      containerStatuses: [this.#container({ running: { startedAt: new Date().toISOString() } })],
    });
  }

  async unschedulable(job: string, message: string): Promise<void> {
    const condition = {
      type: "PodScheduled",
      status: "False",
      reason: "Unschedulable",
      message,
      lastTransitionTime: new Date().toISOString(),
    };
    await this.#set(job, { phase: "Pending", conditions: [condition] });
  }

  async imageMissing(job: string): Promise<void> {
    await this.waiting(job, { reason: "ImagePullBackOff", message: 'Back-off pulling image "…"' });
  }

  async waiting(job: string, waiting: { reason: string; message: string }): Promise<void> {
    await this.#set(job, {
      phase: "Pending",
      conditions: [scheduled],
      containerStatuses: [this.#container({ waiting })],
    });
  }

  /** The scheduler takes the node for another pod; the trainer has ended by SIGTERM. */
  async preempt(job: string): Promise<void> {
    const message = "default-scheduler: preempting to accommodate a higher priority pod";
    const condition = { type: "DisruptionTarget", status: "True", reason: "PreemptionByScheduler", message };
    const finishedAt = new Date().toISOString();
    const terminated = { exitCode: 143, reason: "Error", startedAt: finishedAt, finishedAt };
    const containerStatuses = [this.#container({ terminated })];
    await this.#set(job, { phase: "Failed", conditions: [scheduled, condition], containerStatuses });
  }

  async end(job: string, exitCode: number, more: { reason?: string; message?: string } = {}): Promise<void> {
    const finishedAt = new Date().toISOString();
    const terminated = {
      exitCode,
      reason: exitCode === 0 ? "Completed" : "Error",
      startedAt: finishedAt,
      finishedAt,
      ...more,
    };
    const phase = exitCode === 0 ? "Succeeded" : "Failed";
    await this.#set(job, { phase, conditions: [scheduled], containerStatuses: [this.#container({ terminated })] });
  }

  async #set(job: string, status: object): Promise<void> {
    const pod = await this.pod(job);
    await this.#client.patchMerge(PODS, pod.metadata, { status }, { subresource: "status" });
  }

  #container(state: object): object {
    return { name: "trainer", ready: false, restartCount: 0, image: "trainer", imageID: "", state };
  }
}
